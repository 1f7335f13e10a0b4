"""What a model is loaded for, each with transformers' class for it and the head that the class adds to the encoder."""

from dataclasses import dataclass
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from models.errors import InputError


@dataclass(frozen=True)
class Task:
    """name: as the command is called; model and trained: what is wanted, in words; auto and classes: transformers'
    automatic class and its classes by config; head: how the weights of the head begin, in any architecture."""

    name: str
    model: str
    trained: str
    auto: Any
    classes: Any
    head: tuple[str, ...]

    def class_of(self, config: Any) -> Any:
        """→ the model's class for a config. Raises InputError where the architecture has none."""
        if type(config) not in self.classes:
            raise InputError(f"{config.model_type} has no {self.model}: give a checkpoint of another architecture")
        return self.classes[type(config)]


ASK = Task(
    "ask", "question-answering model", "fine-tuned for question answering", AutoModelForQuestionAnswering,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING, ("qa_outputs.",),
)  # fmt: skip
ENCODE = Task("encode", "encoder", "with an encoder", AutoModel, MODEL_MAPPING, ())
CLASSIFY = Task(
    "classify", "sequence-classification model", "fine-tuned to classify sequences", AutoModelForSequenceClassification,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, ("classifier.", "pre_classifier.", "score."),
)  # fmt: skip
TAG = Task(
    "tag", "token-classification model", "fine-tuned to classify tokens", AutoModelForTokenClassification,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, ("classifier.",),
)  # fmt: skip
GENERATE = Task(
    "generate", "language model", "trained to generate text", AutoModelForCausalLM,
    MODEL_FOR_CAUSAL_LM_MAPPING, ("lm_head.", "cls.predictions."),
)  # fmt: skip

TASKS = {task.name: task for task in (ASK, ENCODE, CLASSIFY, TAG, GENERATE)}


def task_of(config: Any, class_name: str) -> Task | None:
    """→ what transformers' class of this name is for, in the architecture of `config`; None for any other class"""
    for task in TASKS.values():
        found = task.classes.get(type(config), ())
        if class_name in [one.__name__ for one in (found if isinstance(found, tuple) else (found,))]:
            return task
    return None


def drop_missing_pooler(model: Any, notes: dict[str, Any]) -> None:
    """An encoder from a checkpoint without a pooler gives hidden states alone, not what random weights make of them."""
    pooler = {key for key in notes["missing_keys"] if key.startswith("pooler.")}
    if pooler:
        model.pooler = None
        notes["missing_keys"] = set(notes["missing_keys"]) - pooler
