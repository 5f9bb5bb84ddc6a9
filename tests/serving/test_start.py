"""A server imports little: its start is mostly imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import tensorflow as tf
from google.protobuf import descriptor_pb2
from kserve.protocol.grpc import grpc_predict_v2_pb2

from serving import open_inference_pb2, tensorflow_parts

ROOT = Path(__file__).parents[2]
START = """
import sys
from serving.server import load
load()
heavy = {
    "IPython", "PIL", "aiohttp", "h5py", "httpx", "keras", "kserve",
    "kubernetes", "matplotlib", "models", "pandas", "pipeline", "requests",
    "tensorflow._api", "tf_keras", "websockets",
}
print("heavy:", *sorted(heavy & sys.modules.keys()))
print("modules:", len(sys.modules))

# The rest of TensorFlow is there for whoever asks for it.
import tensorflow as tf
print("whole:", tf.__version__, (tf.constant([1.0]) + 1).numpy().tolist())
print("keras:", "keras" in sys.modules)
"""


def test_a_server_imports_little_and_the_rest_when_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.split(":") for line in done.stdout.splitlines())
    assert found["heavy"].strip() == ""
    assert int(found["modules"]) < 1300
    assert found["whole"].strip() == f"{tf.__version__} [2.0]"
    assert found["keras"].strip() == "False"


def test_a_process_that_has_tensorflow_keeps_it() -> None:
    before = sys.modules["tensorflow"]
    tensorflow_parts.prepare()
    assert sys.modules["tensorflow"] is before
    assert type(before) is ModuleType
    assert tensorflow_parts.is_public_op("MatMul")
    assert not tensorflow_parts.is_public_op("NoSuchOp")


def test_the_protocol_is_that_of_kserve_field_by_field() -> None:
    ours, theirs = (descriptor_pb2.FileDescriptorProto() for _ in range(2))
    open_inference_pb2.DESCRIPTOR.CopyToProto(ours)
    grpc_predict_v2_pb2.DESCRIPTOR.CopyToProto(theirs)
    assert messages(ours) == messages(theirs)
    assert len(messages(ours)) == 18


def messages(file: descriptor_pb2.FileDescriptorProto) -> dict[str, object]:
    """Message -> its fields and inner messages, without the package's name."""

    def described(message: descriptor_pb2.DescriptorProto) -> object:
        fields = {
            field.number: (
                field.name,
                field.type,
                field.label,
                field.type_name.removeprefix(f".{file.package}"),
                field.HasField("oneof_index"),
            )
            for field in message.field
        }
        inner = {one.name: described(one) for one in message.nested_type}
        return fields, inner

    return {one.name: described(one) for one in file.message_type}
