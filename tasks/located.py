"""Find the base model that a configuration names, so that its digest can enter keys."""

from tunemill.files import FileDigests
from tunemill.home import PROJECT, Home
from tunemill.models.settings import ModelSettings
from tunemill.models.sources import ModelSource, locate


def located_model(settings: ModelSettings) -> ModelSource:
    """Say by digest what the model is made from; files that have not changed are not read again."""
    home = Home.find().root
    digests = FileDigests(home / "digests.json")
    source = locate(settings, PROJECT, digests)
    digests.save()
    return source
