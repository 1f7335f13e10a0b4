"""Fine-tuning a float encoder for question answering."""

from models.finetune.checkpoint import weights_checksum
from models.finetune.losses import Distillation
from models.finetune.saving import save_model
from models.finetune.training import Settings, Step, train

__all__ = ["Distillation", "Settings", "Step", "save_model", "train", "weights_checksum"]
