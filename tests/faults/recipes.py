"""A short run of every recipe, and what two runs have to have in common."""

import json

from latent_gemma.model import LatentConfig
from tests.saving import save_tiny

COMMON = [
    "--data", "chains:length=2", "--batch-size", "4", "--log-every", "5", "--save-every", "2", "--resume", "auto",
]  # fmt: skip
GROUPS = [
    "--num-generations", "4", "--max-new-tokens", "5", "--sample-every", "3", "--steps", "8", "--limit", "6",
    "--rewards", "lengthy:longer",
]  # fmt: skip
#: Each crosses an epoch, and what its curriculum changes in a run.
RECIPES = {
    # two stages, at each of which the optimiser's moments are dropped
    "coconut": ["coconut", "--max-latent-stage", "2", "--uniform-prob", "0.3", "--steps", "12", "--limit", "20"],
    # each example draws its stage
    "pause": ["pause", "--max-latent-stage", "2", "--stage-mixing", "--steps", "12", "--limit", "20"],
    "internalize": [
        "internalize", "--max-latent-stage", "1", "--final-stages", "1", "--steps", "12", "--limit", "20",
    ],
    # K grows, p follows the loss gate, and the weights that act on thoughts are new
    "anneal": [
        "anneal", "--p-shape", "gated", "--gate-loss", "100", "--grow-until", "0.5", "--trains", "thoughts",
        "--adapter", "lora", "--bridge", "mlp", "--accumulate", "2", "--steps", "8", "--limit", "20",
        "--compress", "1,0.5",
    ],
    # the teacher of a step of several batches is measured first, and the bridge trains beside an adapter
    "codi": [
        "codi", "--num-thoughts", "3", "--rank", "2", "--dropout", "0.3", "--accumulate", "2", "--steps", "8",
        "--limit", "20",
    ],
    # dropout draws random numbers in every step, and each epoch which examples of like length meet
    "sft": [
        "sft", "--format", "tags", "--group-by-length", "--rank", "2", "--dropout", "0.3", "--steps", "8",
        "--limit", "20",
    ],
    # one batch of rollouts serves two steps
    "grpo": ["grpo", "--mode", "words", "--format", "tags", "--iterations", "2", *GROUPS],
    "grpo-latent": ["grpo", "--mode", "latent", "--rank", "2", *GROUPS],
    # several runs, each measured
    "study": ["grpo", "--mode", "words", "--beta", "0,0.1", "--eval-items", "4", *GROUPS, "--steps", "3"],
}  # fmt: skip
#: What a clock says, and that Trainer was told to stop behind this step.
TIMES = {
    "TrainerControl",
    "seconds",
    "step_time",
    "train_data_share",
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "time",
}


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    if isinstance(value, list):  # a state writes a dictionary as pairs
        return [without_times(item) for item in value if not (isinstance(item, list) and item[:1] == ["step_time"])]
    return value


def _step(path):
    return int(path.name.split("-")[1]) if path.name.startswith("checkpoint-") else -1


def content(run):
    """The files of a run: what is JSON without times, what is tensors bit for bit; of checkpoints the newest."""
    found = {}
    # a run that is stopped saves where it is stopped, so which older one there still is differs
    newest = {max(place.iterdir(), key=_step) for place in run.rglob("checkpoints")}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        # the manifest holds the hash of files that hold times; a report says how long it took
        if path.is_dir() or path.name in ("manifest.json", ".lock") or path.suffix in (".png", ".html", ".md"):
            continue
        if path.parent.name.startswith("checkpoint-") and path.parent not in newest:
            continue
        if path.suffix == ".safetensors":
            found[name] = path.read_bytes()
        elif path.suffix == ".jsonl":
            found[name] = [without_times(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_text()))
        if path.name in ("run.json", "settings.json"):  # the others say where and by which command
            kept = ("recipe", "steps", "seed", "metrics", "mode", "notes", "parent_sha256", "data_sha256", "step_size")
            found[name] = {key: found[name][key] for key in kept if key in found[name]}
        if path.name == "report.json":
            found[name] = [
                {k: v for k, v in row.items() if k not in ("seconds_per_answer", "seconds_range", "peak_mem_gib")}
                for row in found[name]["rows"]
            ]
    return found


def arguments(folder, name):
    """The command line of a recipe, without `--out`; its model and its reward are put into `folder`, to be run in."""
    model = folder / "tiny"
    if not model.exists():
        sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
        save_tiny(model, latent=LatentConfig(num_thoughts=2), **sizes)
        (folder / "lengthy.py").write_text("def longer(question, completion, accepted):\n    return len(completion)\n")
    return ["train", RECIPES[name][0], "--model", str(model), *COMMON, *RECIPES[name][1:]]
