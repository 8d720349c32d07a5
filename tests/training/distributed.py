"""Trains small models, alone or as one of several processes; run as a script.

    python distributed.py OUT BATCH_SIZE CASE..
    torchrun --nproc-per-node 2 distributed.py OUT BATCH_SIZE CASE..

The main process writes the weights of each case to `OUT/CASE.safetensors` and its metrics to `OUT/CASE/metrics.jsonl`.
"""

import sys
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState
from safetensors.torch import save_file

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.model import LatentConfig
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from latent_gemma.training.curriculum import AnnealCurriculum, CoconutCurriculum, CodiCurriculum, Curriculum
from latent_gemma.training.fit import fit
from latent_gemma.training.settings import TrainSettings

#: Chains of one to four steps in no order, so that batches of one optimiser step think unequal numbers of steps.
LENGTHS = [4, 1, 1, 2, 3, 1, 4, 4, 2, 2, 1, 1, 1, 1, 3, 4] * 3
#: "grouped" begins with a stage of words, which are packed, and groups its steps by length.
CASES: dict[str, tuple[LatentConfig, Curriculum]] = {
    "coconut": (LatentConfig(bridge="linear"), CoconutCurriculum(max_latent_stage=4, uniform_prob=0.5)),
    "anneal": (
        LatentConfig(bridge="linear", adapter="lora", trains="thoughts"),
        AnnealCurriculum(p_shape="gated", gate_loss=100.0, grow_until=0.5),
    ),
    "codi": (LatentConfig(bridge="mlp"), CodiCurriculum(num_thoughts=3)),
    "grouped": (LatentConfig(), CoconutCurriculum(first_stage=0, max_latent_stage=2)),
    "sequence": (
        LatentConfig(recurrence="sequence", backprop_steps=2),
        CoconutCurriculum(max_latent_stage=3, learn_k=False),
    ),
}


def main() -> None:
    out, batch_size = Path(sys.argv[1]), int(sys.argv[2])
    chains = [chain_examples(ChainConfig(steps), "train", 0) for steps in range(1, 5)]
    examples = [next(chains[length - 1]) for length in LENGTHS]
    # Adam divides by the gradient's size: where that is rounding error only, a step's size is its whole error
    settings = TrainSettings(steps=6, batch_size=batch_size, accumulate=2, lr=1e-4, log_every=1)
    for name in sys.argv[3:]:
        latent, curriculum = CASES[name]
        model = build_tiny("gemma2", replace(latent, step_separator=""), hidden_size=32, num_layers=2, num_heads=2)
        grouped = replace(settings, group_by_length=name == "grouped")
        result = fit(model, build_tokenizer(), examples, curriculum, grouped, out / name, name)
        if PartialState().is_main_process:
            weights = {key: value.detach().clone() for key, value in result.model.named_parameters()}
            save_file(weights, out / f"{name}.safetensors")


if __name__ == "__main__":
    main()
