"""NNI's manager, as far as the tuner has to talk to it: a few calls of its REST interface, on this machine.

NNI 3.0 tells a tuner neither which trial ended, nor what a stopped trial had reported, nor lets it end an experiment.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from typing import Any

from nasplug.errors import NasplugError

__all__ = ["Manager", "ManagerError"]

_CHANNEL = re.compile(r"ws://(?P<host>[^/]+)(?P<prefix>/.*)?/tuner")
_TIMEOUT_S = 5.0


class ManagerError(NasplugError):
    """The manager does not answer, or not as NNI 3.0 does."""


class Manager:
    """The REST interface at a base address such as ``http://localhost:8080``."""

    def __init__(self, address: str):
        self._root = f"{address}/api/v1/nni"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy

    @classmethod
    def of_dispatcher(cls) -> Manager | None:
        """Return the manager that started this process as its dispatcher, or None."""
        match = _CHANNEL.fullmatch(os.environ.get("NNI_TUNER_COMMAND_CHANNEL", ""))
        return None if match is None else cls(f"http://{match['host']}{match['prefix'] or ''}")

    def jobs(self) -> dict[str, str]:
        """Return the status of every trial job by its id."""
        return {str(job["trialJobId"]): str(job["status"]) for job in self._objects("/trial-jobs")}

    def intermediate(self) -> list[dict[str, Any]]:
        """Return intermediate results, oldest first: ``trialJobId``, ``parameterId``, ``timestamp`` in ms, ``data``.

        These ids are right at any concurrency, unlike the parameters in a job's record.
        """
        return sorted(self._objects("/metric-data?type=PERIODICAL"), key=lambda metric: metric["timestamp"])

    def end_after_submitted(self) -> None:
        """Let the experiment be done once the trials submitted so far have ended."""
        profile = self._call("/experiment")
        try:
            profile["params"]["maxTrialNumber"] = len(self.jobs())
        except (TypeError, KeyError) as error:
            raise ManagerError(f"NNI's manager described the experiment as {str(profile)[:100]}") from error
        self._call("/experiment?update_type=MAX_TRIAL_NUM", profile)

    def _objects(self, path: str) -> list[dict[str, Any]]:
        found = self._call(path)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise ManagerError(f"NNI's manager answered {path} with {str(found)[:100]}")
        return found

    def _call(self, path: str, put: Any = None) -> Any:
        request = urllib.request.Request(
            self._root + path,
            data=None if put is None else json.dumps(put).encode(),
            headers={"Content-Type": "application/json"},
            method="GET" if put is None else "PUT",
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                text = answer.read()
            return json.loads(text) if text else None
        except (OSError, ValueError) as error:
            raise ManagerError(f"NNI's manager did not answer {path}: {error}") from error
