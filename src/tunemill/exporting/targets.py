"""List the export targets; to add one, write its module and its line here, and its name in `settings.TargetName`."""

from tunemill.exporting import adapter_target, gguf_target, merged_target
from tunemill.exporting.settings import TargetName
from tunemill.exporting.target import Target

TARGETS: dict[TargetName, Target] = {
    "gguf": gguf_target.TARGET,
    "merged": merged_target.TARGET,
    "adapter": adapter_target.TARGET,
}
