"""What configurations choose from, of models and of verbs alike; without torch, so that options are read at once."""

from typing import Literal

Recurrence = Literal["append", "sequence", "parallel"]
#: What stands in the place of a thought: the hidden state before it, or one learnt constant.
Fed = Literal["hidden", "pause"]
#: The token part of what is fed back: the most probable token, or the most probable ones by their probabilities.
TokenPart = Literal["argmax", "soft"]
#: K: so many latent steps, or as many as the model itself takes until it prefers the end of thinking.
NumThoughts = int | Literal["auto"]
#: Thoughts that stand for one written step: so many, or one for each of its tokens.
ThoughtsPerStep = int | Literal["tokens"]
#: What an evaluation puts into the thought positions besides the thoughts; "full" adds curves.
Controls = Literal["none", "basic", "full"]
BridgeKind = Literal["identity", "linear", "mlp"]
Trains = Literal["all", "thoughts"]
Adapter = Literal["none", "lora", "full"]
WordsFormat = Literal["markers", "tags"]
#: What a model does between a question and its answer: thinks, writes its reasoning, or nothing.
Mode = Literal["latent", "words", "none"]
TrainedFor = Literal["unknown", "latent", "words", "none"]
Precision = Literal["float32", "bfloat16"]
#: What trains: Trainer and TRL on torch, or Google Tunix on JAX.
EngineName = Literal["torch", "tunix"]
#: How a verb is told to ask a model; "auto" is what it was trained for.
AskedMode = Literal["auto", "latent", "words", "none"]
#: How a verb is told to compare answers; "auto" is what the data set's are.
AskedKind = Literal["auto", "number", "math", "choice", "text", "translation"]
