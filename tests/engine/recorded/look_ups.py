"""The one program, with the clouds' answers to its look-ups kept in a file or given from that file.

The keys that a recorded state names are in no cloud any more; what the clouds said of them is kept beside the state.
Started as `__main__.py` beside the program, which is then called `fleet.py`.
"""

import json
import os
import runpy
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import get_monitor

KEPT = Path(os.environ["LOOK_UPS"])
monitor: Any = get_monitor()
ask = monitor.Invoke
answers: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
replay = bool(answers)


def invoke(request: Any) -> Any:
    """Answers a look-up from the file, or asks the cloud and keeps the answer."""
    question = f"{request.tok} {json.dumps(MessageToDict(request.args), sort_keys=True)}"
    if replay:
        if question not in answers:
            raise KeyError(f"no answer is recorded to {question}")
        return ParseDict({"return": answers[question]}, resource_pb2.ResourceInvokeResponse())
    response = ask(request)
    answers[question] = MessageToDict(getattr(response, "return"))
    KEPT.write_text(json.dumps(answers))
    return response


monitor.Invoke = invoke
runpy.run_path(str(Path(__file__).with_name("fleet.py")), run_name="__main__")
