"""What a stage leaves behind."""

import json

from latent_gemma.cli import main
from latent_gemma.model import LatentConfig
from latent_gemma.model.tiny import build_tiny, build_tokenizer


def test_a_chat_models_turn_ends_generation(tmp_path):
    folder, out = tmp_path / "chat", tmp_path / "out"
    build_tiny(latent=LatentConfig(), hidden_size=32, num_layers=2, num_heads=2).save_pretrained(folder)
    tokenizer = build_tokenizer()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}<end_of_turn>\n"
        "{% endfor %}<start_of_turn>model\n"
    )
    tokenizer.save_pretrained(folder)
    options = ["--data", "chains:length=2", "--limit", "8", "--steps", "1", "--format", "tags"]
    assert main(["train", "sft", "--model", str(folder), "--out", str(out), *options]) == 0
    assert json.loads((out / "model" / "generation_config.json").read_text())["eos_token_id"] == [1, 11]
    latent = json.loads((out / "model" / "config.json").read_text())["latent"]
    assert latent["system"].startswith("Show your work between <reasoning>"), "asked for tags, in the user's turn"
