"""Data sets, each read into `Example(question, steps, answer, language)`."""
