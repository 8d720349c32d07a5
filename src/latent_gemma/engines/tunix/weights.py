"""A Gemma 1 or 2 in transformers' names and in Tunix's, and back; every value stays as it is."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from tunix.models.gemma import model as gemma

from latent_gemma.engines.tunix.mesh import laid_over
from latent_gemma.errors import ConfigError, ModelError
from latent_gemma.model.gemma import is_latent_parameter

#: Where a value lies in Tunix's model, such as ("layers", 0, "attn", "q_einsum", "w").
Path = tuple[str | int, ...]
_KINDS = {"sliding_attention": gemma.AttentionType.LOCAL_SLIDING, "full_attention": gemma.AttentionType.GLOBAL}
_NORMS = {
    "input_layernorm": "pre_attention_norm",
    "post_attention_layernorm": "post_attn_norm",
    "pre_feedforward_layernorm": "pre_ffw_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
#: Of Gemma 1, whose second norm stands behind attention and its residual.
_GEMMA_1_NORMS = {"input_layernorm": "pre_attention_norm", "post_attention_layernorm": "pre_ffw_norm"}
_TORCH = "--engine torch trains it"


def tunix_config(config: Any, checkpointing: bool = False) -> gemma.ModelConfig:
    """Tunix's configuration of a model; Tunix itself knows sizes by the names of published models alone.

    Args:
        config: transformers' configuration.
        checkpointing: recompute each layer's activations in backward.

    Returns:
        The configuration.

    Raises:
        ModelError: if the model is none that Tunix computes as transformers does.
    """
    second = config.model_type.endswith("gemma2")
    if not second and not config.model_type.endswith("gemma"):
        raise ModelError(f"--engine tunix with a model of type {config.model_type}: it takes Gemma 1 and 2", _TORCH)
    rope = config.rope_parameters
    # what Tunix's code holds fixed, with what the model has
    fixed = {
        "query scale": (config.head_dim, config.query_pre_attn_scalar if second else config.head_dim),
        "epsilon of its norms": (1e-6, config.rms_norm_eps),
        "activation": ("gelu_pytorch_tanh", config.hidden_activation if second else config.hidden_act),
        "rotary base": (10_000.0, rope["rope_theta"]),
        "kind of rotary embedding": ("default", rope.get("rope_type", "default")),
        "bias in attention": (False, config.attention_bias),
        "tied head": (True, config.tie_word_embeddings),
    }
    for what, (theirs, ours) in fixed.items():
        if theirs != ours:
            raise ModelError(f"--engine tunix computes with a {what} of {theirs}, and this model has {ours}", _TORCH)
    return gemma.ModelConfig(
        num_layers=config.num_hidden_layers,
        num_embed=config.vocab_size,
        embed_dim=config.hidden_size,
        hidden_dim=config.intermediate_size,
        num_heads=config.num_attention_heads,
        head_dim=config.head_dim,
        num_kv_heads=config.num_key_value_heads,
        final_logit_softcap=config.final_logit_softcapping if second else None,
        attn_logits_soft_cap=config.attn_logit_softcapping if second else None,
        use_post_attn_norm=second,
        use_post_ffw_norm=second,
        sliding_window_size=config.sliding_window if second else None,
        attention_types=tuple(
            _KINDS[kind] for kind in (config.layer_types if second else ["full_attention"] * config.num_hidden_layers)
        ),
        remat_config=gemma.RematConfig.DECODER if checkpointing else gemma.RematConfig.NONE,
    )


def torch_weights(model: Any) -> dict[str, np.ndarray]:
    """The weights of a torch model under transformers' names, float32; they share its memory.

    Args:
        model: the model, without adapters.

    Raises:
        ModelError: if it has weights that only thoughts use.
    """
    latent = next((name for name, _ in model.named_parameters() if is_latent_parameter(name)), None)
    if latent is not None:
        raise ModelError(f"--engine tunix with a latent model: {latent} is nothing that Tunix knows", _TORCH)
    state = {name: value.detach().float().cpu().numpy() for name, value in model.state_dict().items()}
    state.pop("lm_head.weight", None)  # the tied embedding
    return state


def _norms(config: gemma.ModelConfig) -> dict[str, str]:
    return _NORMS if config.use_post_attn_norm else _GEMMA_1_NORMS


def to_tunix(state: Mapping[str, np.ndarray], config: gemma.ModelConfig) -> dict[Path, np.ndarray]:
    """Weights under Tunix's paths.

    N heads, K of keys and values, H their width, D the model's. A projection [N * H, D] becomes [N, D, H]; of keys and
    values one array holds both, and with N = K of queries too.

    Args:
        state: transformers' names -> arrays.
        config: Tunix's configuration.

    Returns:
        Path -> array.
    """
    n, k, h, d = config.num_heads, config.num_kv_heads, config.head_dim, config.embed_dim

    def by_head(weight: np.ndarray, heads: int) -> np.ndarray:
        return weight.reshape(heads, h, d).transpose(0, 2, 1)

    tree: dict[Path, np.ndarray] = {
        ("embedder", "input_embedding"): state["model.embed_tokens.weight"],
        ("final_norm", "scale"): state["model.norm.weight"],
    }
    for i in range(config.num_layers):
        name, path = f"model.layers.{i}", ("layers", i)
        queries, keys, values = (state[f"{name}.self_attn.{part}_proj.weight"] for part in "qkv")
        if n == k:
            tree[*path, "attn", "qkv_einsum", "w"] = np.stack([by_head(part, n) for part in (queries, keys, values)])
        else:
            tree[*path, "attn", "q_einsum", "w"] = by_head(queries, n)
            tree[*path, "attn", "kv_einsum", "w"] = np.stack([by_head(keys, k), by_head(values, k)])
        tree[*path, "attn", "attn_vec_einsum", "w"] = state[f"{name}.self_attn.o_proj.weight"].T.reshape(n, h, d)
        for part in ("gate_proj", "up_proj", "down_proj"):
            tree[*path, "mlp", part, "kernel"] = state[f"{name}.mlp.{part}.weight"].T
        for ours, theirs in _norms(config).items():
            tree[*path, theirs, "scale"] = state[f"{name}.{ours}.weight"]
    return tree


def from_tunix(tree: Mapping[Path, np.ndarray], config: gemma.ModelConfig) -> dict[str, np.ndarray]:
    """The inverse of `to_tunix`.

    Args:
        tree: path -> array.
        config: Tunix's configuration.

    Returns:
        transformers' names -> arrays.
    """
    n, k, h, d = config.num_heads, config.num_kv_heads, config.head_dim, config.embed_dim

    def flat(weight: np.ndarray) -> np.ndarray:
        return weight.transpose(0, 2, 1).reshape(-1, d)

    state = {
        "model.embed_tokens.weight": tree["embedder", "input_embedding"],
        "model.norm.weight": tree["final_norm", "scale"],
    }
    for i in range(config.num_layers):
        name, path = f"model.layers.{i}", ("layers", i)
        if n == k:
            parts = tuple(tree[*path, "attn", "qkv_einsum", "w"])
        else:
            parts = (tree[*path, "attn", "q_einsum", "w"], *tree[*path, "attn", "kv_einsum", "w"])
        for part, weight in zip("qkv", parts, strict=True):
            state[f"{name}.self_attn.{part}_proj.weight"] = flat(weight)
        state[f"{name}.self_attn.o_proj.weight"] = tree[*path, "attn", "attn_vec_einsum", "w"].reshape(n * h, d).T
        for part in ("gate_proj", "up_proj", "down_proj"):
            state[f"{name}.mlp.{part}.weight"] = tree[*path, "mlp", part, "kernel"].T
        for ours, theirs in _norms(config).items():
            state[f"{name}.{ours}.weight"] = tree[*path, theirs, "scale"]
    return {name: np.ascontiguousarray(weight) for name, weight in state.items()}


def build_model(state: Mapping[str, np.ndarray], config: gemma.ModelConfig, mesh: jax.sharding.Mesh, dtype: Any) -> Any:
    """A Tunix model with given weights, laid out over the devices as Tunix lays it out.

    Args:
        state: transformers' names -> arrays.
        config: Tunix's configuration.
        mesh: the devices.
        dtype: of the matrices in its layers. Embedding and norms are float32, and so is all that is computed from them:
            with a mixture of both Tunix could not keep keys and values of a rollout.

    Returns:
        The `nnx.Module`.

    Raises:
        ConfigError: if a weight cannot be cut so.
    """
    with laid_over(mesh):
        graph, abstract = nnx.split(nnx.eval_shape(lambda: gemma.Gemma(config, rngs=nnx.Rngs(params=0))))
        shapes = flatten_dict(nnx.to_pure_dict(abstract))
        places = flatten_dict(nnx.to_pure_dict(nnx.get_named_sharding(abstract, mesh)))
        placed = {}
        for path, array in to_tunix(state, config).items():
            assert shapes[path].shape == array.shape, path
            _refuse_uneven(path, array.shape, places[path], mesh)
            held = dtype if path[0] == "layers" and path[-1] != "scale" else jnp.float32
            placed[path] = jax.device_put(array.astype(held), places[path])
        assert placed.keys() == shapes.keys()
        nnx.replace_by_pure_dict(abstract, unflatten_dict(placed))
        return nnx.merge(graph, abstract)


def _refuse_uneven(path: Path, shape: tuple[int, ...], place: Any, mesh: jax.sharding.Mesh) -> None:
    for size, axis in zip(shape, place.spec, strict=False):
        if axis is not None and size % mesh.shape[axis]:
            raise ConfigError(
                f"--mesh {','.join(map(str, mesh.devices.shape))} cuts {'.'.join(map(str, path))} {list(shape)} in "
                f"{mesh.shape[axis]} parts ({axis}), which {size} does not divide by",
                f"give a mesh with a divisor of {size} there",
            )


def read_weights(module: Any, kind: Any = nnx.Param) -> dict[Path, np.ndarray]:
    """The weights of a Tunix module, of one kind, gathered on the host: path -> array."""
    flat: Any = nnx.to_flat_state(nnx.state(module, kind))
    return {path: np.asarray(value[...]) for path, value in flat}
