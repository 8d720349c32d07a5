"""Google Tunix on JAX: training in words, on TPU and everything else that JAX runs on."""
