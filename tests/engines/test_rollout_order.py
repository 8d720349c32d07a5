"""The questions of every batch of rollouts, and how many steps there are, computed without TRL, are TRL's."""

from dataclasses import replace

import pytest
from datasets import Dataset

from latent_gemma.engines.trl.fit_grpo import grpo_arguments
from latent_gemma.engines.trl.rollouts import FramedGrpoTrainer
from latent_gemma.model.prompt import Frame
from latent_gemma.training.data_order import planned_rollout_steps, rollout_questions
from latent_gemma.training.grpo_questions import groups_of
from latent_gemma.training.rewarding import RewardBook
from latent_gemma.training.settings import GrpoSettings, TrainSettings

COUNT = 11


@pytest.mark.parametrize(("accumulate", "iterations", "epochs"), [(1, 1, 2.0), (2, 1, 1.5), (1, 3, 0.7), (2, 2, 2.0)])
def test_order_and_number_of_steps_are_trls(make_model, tokenizer, tmp_path, accumulate, iterations, epochs):
    settings = TrainSettings(epochs=epochs, batch_size=4, accumulate=accumulate, lr=1e-3, log_every=1, seed=5)
    grpo = GrpoSettings(num_generations=2, max_new_tokens=2, iterations=iterations, sample_every=0)
    model = make_model(num_thoughts=0, words_format="tags")
    asked = []

    def note(question, completion, accepted):
        asked.append(int(question))
        return float(len(completion))

    trainer = FramedGrpoTrainer(
        book=RewardBook([note], Frame(tokenizer, model.config.latent), "words"), num_thoughts=0, model=model,
        args=grpo_arguments(settings, grpo, 0.0, tmp_path), processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(COUNT)], "accepted": [["1"]] * COUNT}),
    )  # fmt: skip
    trainer.train()
    groups = groups_of(settings, grpo)
    assert planned_rollout_steps(COUNT, groups, settings, grpo) == trainer.state.global_step
    assert planned_rollout_steps(COUNT, groups, replace(settings, steps=3), grpo) == 3
    size = groups * grpo.num_generations
    batches = [asked[start : start + size : grpo.num_generations] for start in range(0, len(asked), size)]
    assert len(batches) == -(-trainer.state.global_step // iterations)
    assert batches == [rollout_questions(batch, COUNT, groups, settings.seed) for batch in range(len(batches))]
