"""A small saved model, and changes to its files."""

from __future__ import annotations

import json

from families import fitted


def save_model(folder):
    fitted(max_length=20).save_pretrained(folder)
    return folder


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
