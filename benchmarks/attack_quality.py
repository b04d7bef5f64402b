"""How well the attacks work, on real photos and a network with ImageNet weights; prints as it goes.

    python -m benchmarks.attack_quality [--backbone mobilenet_v2] [--images 100] [--part dog] [--part targeted] …

dog: the lesson's dog becomes a Siamese cat: the smallest L∞ epsilon that works, and what MobileNet 0.75 says.
targeted: PGD-20 towards a class drawn at random, epsilon 4.
sweep: untargeted PGD-20 over epsilon 0.5 … 16; success must not fall.
apgd: APGD against PGD with the same loss at equal steps (``--steps``), mostly with budgets that are not enough for all
    images (``--epsilons``); below 1 of 255 success is that before rounding.
square: the black box against white boxes; it must not win.
minimal: DeepFool and C&W, the smallest L2 changes.
All success is counted after PNG and back, over photos that the network had right.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import numpy as np

from benchmarks.attacks import photos
from benchmarks.common import assets, print_table

STEPS = 20


def dog(attacker: Any, options: argparse.Namespace) -> None:
    from tlkeras import load_target
    from tlkeras.attacks import PGD, smallest_epsilon
    from tlkeras.attacks.transfer import transfer

    photo = assets() / "photos" / "lesson" / "dog-from-unsplash.jpg"
    rows = []
    other = load_target("mobilenet_0.75")
    smallest = smallest_epsilon(attacker, photo, PGD(steps=60), up_to_255=4, to="Siamese cat")
    usual = attacker.attack([photo], PGD(epsilon_255=4), to="Siamese cat")
    strong = attacker.attack([photo], PGD(epsilon_255=4, steps=100, stop_early=False), to="Siamese cat")
    for words, result in (
        ("smallest epsilon", smallest),
        ("epsilon 4, to first success", usual),
        ("epsilon 4, all of 100 steps", strong),
    ):
        before, after = (other_row(transfer(result, other), when) for when in ("before", "after"))
        best = int(result.probabilities_after[0].argmax())
        said = f"{result.class_names[best]} {result.probabilities_after[0, best]:.3f}"
        rows.append(
            [words, f"{result.linf_255[0]:.0f}", int(result.steps[0]), bool(result.success[0]), said, before, after]
        )
    header = ["dog → Siamese cat", "L∞ of 255", "steps", "success", "after"]
    print_table([*header, "MobileNet 0.75 before", "MobileNet 0.75 after"], rows)


def other_row(transferred: Any, when: str) -> str:
    from tlkeras.backbones.imagenet import class_names

    row = getattr(transferred, f"probabilities_{when}")[0]
    return f"{class_names()[int(row.argmax())]} {row.max():.3f}"


def targeted(attacker: Any, options: argparse.Namespace) -> None:
    from tlkeras.attacks import PGD

    pixels, labels, wanted = photos(attacker.target, options.images)
    result = attacker.attack(pixels, PGD(epsilon_255=4, steps=STEPS), to=wanted, labels=labels)
    print_table(
        ["PGD-20 → random class, ε 4", "success", "rate", "mean steps", "seconds"],
        [[attacker.target.name, f"{result.success.sum()} of {result.attacked.sum()}", f"{result.success_rate:.4f}",
          f"{result.steps.mean():.2f}", f"{result.seconds:.1f}"]],
    )  # fmt: skip


def sweep(attacker: Any, options: argparse.Namespace) -> None:
    from tlkeras.attacks import PGD

    pixels, labels, _ = photos(attacker.target, options.images)
    rows = []
    for epsilon_255 in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
        result = attacker.attack(pixels, PGD(epsilon_255=epsilon_255, steps=STEPS), labels=labels)
        rows.append([f"{epsilon_255:g}", int((result.raw_success & result.attacked).sum()), int(result.success.sum()),
                     f"{result.steps.mean():.2f}"])  # fmt: skip
        print(f"ε {epsilon_255:g} done", flush=True)
    print_table(["epsilon", f"fooled of {len(pixels)}, before rounding", "after PNG", "mean steps"], rows)
    for column in (1, 2):
        counts = [row[column] for row in rows]
        print("monotone" if counts == sorted(counts) else "NOT monotone", counts)


def apgd(attacker: Any, options: argparse.Namespace) -> None:
    from tlkeras.attacks import APGD, PGD

    pixels, labels, wanted = photos(attacker.target, min(options.images, 40))
    rows = []
    for goal, to in (("a class drawn at random", wanted), ("any other class", None)):
        for epsilon_255 in options.epsilons:
            for steps in options.steps:
                row: list[object] = [goal, f"{epsilon_255:g}", steps]
                fair = True
                for loss in ("ce", "dlr"):
                    results = [
                        attacker.attack(
                            pixels, kind(epsilon_255=epsilon_255, steps=steps, loss=loss), to=to, labels=labels
                        )
                        for kind in (PGD, APGD)
                    ]
                    # 8 bits hold no change below 1: there, what fools the network before rounding has to do.
                    hits = [int((r.success if epsilon_255 >= 1 else r.raw_success & r.attacked).sum()) for r in results]
                    row += [*hits, " / ".join(f"{result.steps.mean():.1f}" for result in results)]
                    fair &= hits[1] >= hits[0]
                rows.append([*row, "yes" if fair else "NO"])
                print(rows[-1], flush=True)
    losses = [name for loss in ("CE", "DLR") for name in (f"PGD, {loss}", f"APGD-{loss}", "mean steps")]
    print_table([f"{len(pixels)} photos, to", "epsilon", "steps", *losses, "APGD not worse"], rows)


def square(attacker: Any, options: argparse.Namespace) -> None:
    from tlkeras.attacks import APGD, FGSM, PGD, Square

    pixels, labels, _ = photos(attacker.target, min(options.images, 20))
    rows = []
    for epsilon_255 in (1.0, 4.0):
        counts = [
            int(
                attacker.attack(pixels, dataclasses.replace(kind, epsilon_255=epsilon_255), labels=labels).success.sum()
            )
            for kind in (FGSM(), PGD(), APGD(), Square(steps=100))
        ]
        rows.append([f"{epsilon_255:g}", *counts, counts[3] <= max(counts[1:3])])
        print(rows[-1], flush=True)
    print_table(["epsilon", "FGSM", "PGD", "APGD-CE", "Square, 100 queries", "Square does not win"], rows)


def minimal(attacker: Any, options: argparse.Namespace) -> None:
    from tlkeras.attacks import CarliniWagner, DeepFool

    pixels, labels, _ = photos(attacker.target, min(options.images, 8))
    rows = []
    for method in (DeepFool(), DeepFool(norm="linf"), CarliniWagner()):
        result = attacker.attack(pixels, method, labels=labels)
        rows.append([f"{method.name}, {method.norm}", f"{result.success.sum()} of {len(pixels)}",
                     f"{np.median(result.linf_255):.1f}", f"{np.median(result.l2_255):.1f}",
                     f"{result.steps.mean():.1f}"])  # fmt: skip
        print(rows[-1], flush=True)
    print_table(["attack", "success", "median L∞ of 255", "median L2 of 255", "mean steps"], rows)


PARTS = {part.__name__: part for part in (dog, targeted, sweep, apgd, square, minimal)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 50], help="for part apgd")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.5, 1.0, 2.0], help="for part apgd, of 255")
    options = parser.parse_args()
    assets()
    from tlkeras.attacks import Attacker

    attacker = Attacker(options.backbone)
    print(f"{options.backbone}\n", flush=True)
    for name in options.part or PARTS:
        started = time.perf_counter()
        PARTS[name](attacker, options)
        print(f"({name}: {time.perf_counter() - started:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
