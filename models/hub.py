"""Models by their Hugging Face name: a folder of the hub's cache, brought up to date where the hub answers."""

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError

from models.errors import InputError

FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]  # weights and tokenizer; no pickle, no code
TIMEOUT = 5  # seconds; transformers itself would try for half a minute, and log each try
ADVICE = "give a folder, a Hugging Face name or minilm-squad"


def download(name: str) -> str:
    """The folder with a hub model's files, as the cache has it where the hub can't be reached.

    Raises InputError when there is no such model, or none in the cache and no hub.
    """
    unreached: Exception | None = None
    try:
        HfApi().model_info(name, timeout=TIMEOUT)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(f"no model {name}, neither here nor on the Hugging Face hub: {ADVICE}") from error
    except (HTTPError, OSError) as error:
        unreached = error
    try:
        offline = unreached is not None
        return snapshot_download(name, allow_patterns=FILES, ignore_patterns="*/*", local_files_only=offline)
    except (HTTPError, OSError, ValueError) as error:
        why = " ".join(str(unreached or error).split())[:200]
        raise InputError(f"no model {name} here, and the Hugging Face hub didn't give it ({why}): {ADVICE}") from error
