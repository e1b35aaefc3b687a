"""Say where state lies: everything that a run leaves behind is under one folder, `TUNEMILL_HOME`.

store/        sealed artifacts, one folder a key
runs/         one JSON a pipeline run
nights/       one JSON a night of a product: the files that it took, its verdict, and what was answered
mlflow.db     MLflow's database, and mlartifacts/ beside it
prefect/      Prefect's home when no server is named
datasets/     datasets of the hub and traces/ of MLflow, as the files that ingest reads
downloads/    wheels and snapshots of base models
caches/       Hugging Face, matplotlib, numba
tmp/          what libraries leave in the temporary folder
"""

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""The checkout (or the image's folder) that holds flows/, tasks/ and pipeline_configs/."""


@dataclass(frozen=True)
class Home:
    """Name the places under one state folder."""

    root: Path

    @classmethod
    def find(cls) -> "Home":
        """Take `TUNEMILL_HOME`, else `.tunemill/`; a relative path counts from the project's root, not from here."""
        return cls((PROJECT / os.environ.get("TUNEMILL_HOME", ".tunemill")).resolve())

    @property
    def store(self) -> Path:
        """Folder of the artifact store."""
        return self.root / "store"

    @property
    def runs(self) -> Path:
        """Folder of the run records."""
        return self.root / "runs"

    @property
    def nights(self) -> Path:
        """Folder of the records of nights, one folder a product."""
        return self.root / "nights"

    @property
    def tracking_uri(self) -> str:
        """MLflow's address: the environment's, else the SQLite file under this home."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def mlflow_artifacts(self) -> Path:
        """Folder in which a local MLflow keeps files."""
        return self.root / "mlartifacts"

    def environment(self) -> dict[str, str]:
        """Give the variables that keep every library's state under this home, off the network and quiet."""
        return {
            "TUNEMILL_HOME": str(self.root),
            "PREFECT_HOME": str(self.root / "prefect"),
            "HF_HOME": str(self.root / "caches" / "huggingface"),
            "MPLCONFIGDIR": str(self.root / "caches" / "matplotlib"),
            "NUMBA_CACHE_DIR": str(self.root / "caches" / "numba"),
            **self._temporary(),
            "MPLBACKEND": "Agg",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
            "GX_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_LOGGING_LEVEL": "ERROR",
            "TOKENIZERS_PARALLELISM": "false",
        }

    def _temporary(self) -> dict[str, str]:
        """Keep what libraries leave in the temporary folder; a socket in a folder of more than 80 characters fails."""
        folder = self.root / "tmp"
        return {"TMPDIR": str(folder)} if len(str(folder)) <= 80 else {}

    def enter(self) -> None:
        """Set those variables where they are not set yet and make the folders; call it before heavy imports."""
        for name, value in self.environment().items():
            os.environ.setdefault(name, value)
        for folder in (self.store, self.runs, self.root / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
