"""Divergences between a teacher's and a student's probabilities, row by row.

Owns the two comparisons of context distillation: over label words, and over the likeliest next tokens with a
bucket for the rest (Askell et al. 2021, https://arxiv.org/abs/2112.00861). Does not know who teaches.
"""

from __future__ import annotations

import torch
from torch import Tensor


def compare_label_words(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) in nats, (rows,), from log-probabilities and scores (rows, labels)."""
    return _divergence(_flatten(teacher.float(), temperature), _flatten(student, temperature))


def compare_vocabulary(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) in nats, (rows,), over each row's top tokens and the rest.

    teacher: (rows, k + 1, 2), token ids and log-probabilities, the last entry's id unused, its log-probability that
    of all other tokens; student: (rows, vocabulary) log-probabilities.
    """
    ids = teacher[:, :-1, 0].long()
    top = student.gather(1, ids)
    rest = torch.log1p(-top.exp().sum(1, keepdim=True).clamp(max=1 - 1e-6))
    student_buckets = torch.cat([top, rest], 1)
    return _divergence(_flatten(teacher[:, :, 1].float(), temperature), _flatten(student_buckets, temperature))


def _flatten(scores: Tensor, temperature: float) -> Tensor:
    return (scores / temperature).log_softmax(-1)


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    return (teacher.exp() * (teacher - student)).sum(-1)
