"""A gateway without a model needs none of the model's libraries; one with a model says which are missing."""

import subprocess
import sys

SCENE = """
import sys

class Missing:
    NAMES = {"torch", "tokenizers", "transformers", "llguidance", "safetensors", "numpy", "gguf", "accelerate"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import gateway.bootstrap, gateway.cli.app
from llmcore.errors import ModelError
from llmcore.hosts.build import build_service
from llmcore.hosts.config import HostConfig
try:
    build_service(HostConfig(model="smollm2", cache="/nowhere"), lambda what, done: None)
except ModelError as error:
    print(error)
"""


def test_a_gateway_starts_without_the_extra_and_a_model_says_what_to_install() -> None:
    ran = subprocess.run([sys.executable, "-c", SCENE], capture_output=True, text=True, check=False, timeout=120)

    assert ran.returncode == 0, ran.stderr[-800:]
    assert "pip install 'pratique[llm]'" in ran.stdout
