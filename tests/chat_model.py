"""A tiny language model behind a server: a Llama of transformers, trained for some hundred steps.

The server is no released one: it consists of starlette and transformers' `generate`, because `transformers serve` and
llama.cpp's server need packages that are not locked. KD_TEST_CHAT_SERVER=transformers starts `transformers serve` of
the installed version instead.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

WORDS = ["null", "eins", "zwei", "drei", "vier", "acht", "neun", "zehn"]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "="]
TEMPLATE = "<s> {% for message in messages %}{{ message['content'] }}{% endfor %}"
STEPS = 150


@dataclass(frozen=True)
class ChatModel:
    """A model in memory and on disk. The prompt is `eins zwei =`, the answer `EINS ZWEI`."""

    folder: Path
    model: Any
    tokenizer: Any

    def generate(self, source: str, longest: int) -> str:
        """Translate by transformers' own greedy decoder."""
        ids = self.tokenizer(f"<s> {source} =", return_tensors="pt", add_special_tokens=False)
        with torch.no_grad():
            found = self.model.generate(**ids, max_new_tokens=longest, do_sample=False)
        return str(self.tokenizer.decode(found[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def sentences(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 3))) for _ in range(count)]


def chat_model(folder: Path) -> ChatModel:
    """Train a model and save it as Hugging Face's tools do."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(1)
    vocabulary = [*SPECIAL, *WORDS, *map(str.upper, WORDS)]
    plain = Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    _train(model, tokenizer)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return ChatModel(folder, model, tokenizer)


def _train(model: Any, tokenizer: Any) -> None:
    rng, texts = random.Random(2), sentences(400, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    tokenizer.padding_side = "right"
    for _ in range(STEPS):
        lines = [f"<s> {text} = {text.upper()} </s>" for text in rng.sample(texts, 32)]
        batch = tokenizer(lines, return_tensors="pt", padding=True, add_special_tokens=False)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


@contextmanager
def model_server(model: ChatModel) -> Iterator[tuple[str, str]]:
    """A running server with this model: its address, and its name of the model."""
    if os.environ.get("KD_TEST_CHAT_SERVER") == "transformers":
        with _transformers_serve() as url:
            yield url, str(model.folder)
    else:
        with _small_server(model) as url:
            yield url, "tiny"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def _transformers_serve() -> Iterator[str]:
    import requests

    port = _free_port()
    command = [sys.executable, "-m", "transformers.commands.transformers_cli", "serve", "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--device", "cpu"], env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    try:
        for _ in range(600):
            assert process.poll() is None, "transformers serve ended"
            try:
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _small_server(model: ChatModel) -> Iterator[str]:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    lock = threading.Lock()

    def answers(request: dict[str, Any]) -> dict[str, Any]:
        text = model.tokenizer.apply_chat_template(request["messages"], tokenize=False)
        ids = model.tokenizer(text, return_tensors="pt", add_special_tokens=False)
        count, temperature = int(request.get("n", 1)), float(request.get("temperature", 1.0))
        options: dict[str, Any] = {"do_sample": False} if temperature == 0 else {
            "do_sample": True, "temperature": temperature, "top_k": 0, "top_p": float(request.get("top_p", 1.0)),
        }  # fmt: skip
        with lock, torch.no_grad():
            torch.manual_seed(int(request.get("seed", 0)))
            found = model.model.generate(
                **ids, max_new_tokens=int(request["max_tokens"]), num_return_sequences=count, **options
            )
        length = ids["input_ids"].shape[1]
        choices, written = [], 0
        for number, row in enumerate(found):
            new = [token for token in row[length:].tolist() if token != model.tokenizer.pad_token_id]
            written += len(new)
            ended = bool(new) and new[-1] == model.tokenizer.eos_token_id
            content = model.tokenizer.decode(new, skip_special_tokens=True)
            choices.append({"index": number, "message": {"role": "assistant", "content": content},
                            "finish_reason": "stop" if ended else "length"})  # fmt: skip
        return {"choices": choices, "usage": {"prompt_tokens": length, "completion_tokens": written}}

    async def complete(request: Request) -> JSONResponse:
        from starlette.concurrency import run_in_threadpool

        return JSONResponse(await run_in_threadpool(answers, await request.json()))

    app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])
    port = _free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join()
