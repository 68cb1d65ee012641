"""A search script as in DARTS, with module-level code, in which only the imports name zcpt."""

from __future__ import annotations

import argparse
import logging

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from zcpt.compat.darts import Architect, Network

parser = argparse.ArgumentParser("search")
parser.add_argument("--batch_size", type=int, default=4)
parser.add_argument("--learning_rate", type=float, default=0.025)
parser.add_argument("--learning_rate_min", type=float, default=0.001)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--weight_decay", type=float, default=3e-4)
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--init_channels", type=int, default=4)
parser.add_argument("--layers", type=int, default=3)
parser.add_argument("--grad_clip", type=float, default=5)
parser.add_argument("--train_portion", type=float, default=0.5)
parser.add_argument("--unrolled", action="store_true", default=False)
parser.add_argument("--arch_learning_rate", type=float, default=3e-4)
parser.add_argument("--arch_weight_decay", type=float, default=1e-3)
args = parser.parse_args()

CLASSES = 10


def main() -> tuple[Network, DataLoader, float]:
    torch.manual_seed(2)
    criterion = nn.CrossEntropyLoss()
    model = Network(args.init_channels, CLASSES, args.layers, criterion)
    model = model.to("cpu")
    optimizer = torch.optim.SGD(
        model.parameters(), args.learning_rate, momentum=args.momentum, weight_decay=args.weight_decay
    )
    train_data = TensorDataset(torch.randn(16, 3, 8, 8), torch.arange(16) % CLASSES)
    indices = list(range(len(train_data)))
    split = int(args.train_portion * len(train_data))
    train_queue = DataLoader(train_data, args.batch_size, sampler=SubsetRandomSampler(indices[:split]))
    valid_queue = DataLoader(train_data, args.batch_size, sampler=SubsetRandomSampler(indices[split:]))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer,
        float(args.epochs),  # type: ignore[arg-type]  # a float, as in DARTS
        eta_min=1e-3,
    )
    architect = Architect(model, args)
    for epoch in range(args.epochs):
        lr = float(scheduler.get_last_lr()[0])
        genotype = model.genotype()
        logging.info("genotype = %s", genotype)
        logging.info(F.softmax(model.alphas_normal, dim=-1))
        loss = train(train_queue, valid_queue, model, architect, criterion, optimizer, lr)
        logging.info("epoch %d train_loss %f valid_acc %f", epoch, loss, infer(valid_queue, model))
        scheduler.step()
    return model, train_queue, loss


def train(
    train_queue: DataLoader,
    valid_queue: DataLoader,
    model: Network,
    architect: Architect,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    lr: float,
) -> float:
    for input, target in train_queue:
        model.train()
        input_search, target_search = next(iter(valid_queue))
        architect.step(input, target, input_search, target_search, lr, optimizer, unrolled=args.unrolled)
        optimizer.zero_grad()
        loss = criterion(model(input), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip)
        optimizer.step()
    return loss.item()


@torch.no_grad()
def infer(valid_queue: DataLoader, model: Network) -> float:
    model.eval()
    hits = [(model(input).argmax(1) == target).float().mean() for input, target in valid_queue]
    return float(torch.stack(hits).mean())


if __name__ == "__main__":
    model, train_queue, loss = main()
