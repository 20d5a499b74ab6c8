"""Writes winograd_transforms.h: the one-dimensional transforms of Winograd's convolution F(m, 3).

    python csrc/cpu/winograd_transforms.py > csrc/cpu/winograd_transforms.h

F(m, 3) (Winograd 1980; Lavin and Gray, CVPR 2016) multiplies polynomials by their values at n = m + 2 points, the last
of them infinity: y = A^T [(G g) * (B^T d)] for d of n inputs, g of 3 weights, y of m outputs. The rows of B^T are the
Lagrange numerators of the points, G holds their denominators, so that B and A have small coefficients. In two
dimensions each transform is applied to columns and then to rows. docs/numerics.md says how the points were chosen.
"""

from __future__ import annotations

from fractions import Fraction

# The finite points are pairs +-p of these and, for an even m, 0. All are exact in binary.
PAIRS = {
    4: [Fraction(3, 4), Fraction(3, 2)],
    5: [Fraction(1, 4), Fraction(7, 8), Fraction(7, 4)],
    6: [Fraction(1, 2), Fraction(1), Fraction(2)],
}

Polynomial = list[Fraction]  # coefficients, the constant first


def product(*factors: Polynomial) -> Polynomial:
    """Multiply polynomials."""
    result = [Fraction(1)]
    for factor in factors:
        longer = [Fraction(0)] * (len(result) + len(factor) - 1)
        for i, a in enumerate(result):
            for j, b in enumerate(factor):
                longer[i + j] += a * b
        result = longer
    return result


def literal(value: Fraction) -> str:
    """A float in C++; every coefficient is exact in binary."""
    assert float(value) == value
    return f"{float(value)!r}f"


def total(terms: list[tuple[Fraction, str]]) -> str:
    """The sum of coefficient * name, the terms with coefficient 1 first: they need no multiplication."""
    terms = sorted((t for t in terms if t[0] != 0), key=lambda t: abs(t[0]) != 1)
    text = ""
    for coefficient, name in terms:
        sign = "-" if coefficient < 0 else "+"
        size = abs(coefficient)
        factor = name if size == 1 else f"{name} * {literal(size)}"
        text += (f" {sign} " if text else "-" * (sign == "-")) + factor
    return text or "splat(0)"


class Transforms:
    """The four transforms of one tile size, as lines of C++."""

    def __init__(self, tile: int) -> None:
        self.tile, self.count = tile, tile + 2
        self.zero = [Fraction(0)] * (1 - tile % 2)
        self.points = self.zero + [sign * p for p in PAIRS[tile] for sign in (1, -1)]
        self.pairs = [(len(self.zero) + 2 * i, p) for i, p in enumerate(PAIRS[tile])]
        assert len(self.points) == self.count - 1 == len(set(self.points))

    def numerator(self, without: Fraction | None) -> Polynomial:
        """Product of (x - p) over the points but `without`."""
        return product(*([-p, Fraction(1)] for p in self.points if p != without))

    def rows(self) -> list[tuple[int, Polynomial]]:
        """(point's index, coefficients) of the rows that are computed alone: 0, if it is a point, and infinity."""
        zero = [(0, self.numerator(Fraction(0))) for _ in self.zero]
        return [*zero, (self.count - 1, self.numerator(None))]

    def halves(self, p: Fraction) -> tuple[dict[int, Fraction], dict[int, Fraction]]:
        """The row of +p in two parts: one that the row of -p has too, and p times one that it has negated."""
        row = list(enumerate(self.numerator(p)))
        same = {k: a for k, a in row if k % 2 == self.tile % 2}
        return same, {k: a / p for k, a in row if k not in same}

    def input(self) -> list[str]:
        """v = B^T d."""
        lines = [
            f"v[{index}] = {total([(a, f'd[{k}]') for k, a in enumerate(row)])};"
            for index, row in self.rows()
        ]
        for index, p in self.pairs:
            for name, part in zip(("same", "other"), self.halves(p), strict=True):
                terms = [(a, f"d[{k}]") for k, a in part.items()]
                lines.append(f"const Floats {name}{index} = {total(terms)};")
            for i, factor in ((index, p), (index + 1, -p)):
                terms = [(Fraction(1), f"same{index}"), (factor, f"other{index}")]
                lines.append(f"v[{i}] = {total(terms)};")
        return lines

    def input_adjoint(self) -> list[str]:
        """d = B v."""
        lines = []
        terms: list[list[tuple[Fraction, str]]] = [[] for _ in range(self.count)]
        for index, row in self.rows():
            for k, a in enumerate(row):
                terms[k].append((a, f"v[{index}]"))
        for index, p in self.pairs:
            lines.append(f"const Floats same{index} = v[{index}] + v[{index + 1}];")
            difference = total([(p, f"(v[{index}] - v[{index + 1}])")])
            lines.append(f"const Floats other{index} = {difference};")
            for name, part in zip(("same", "other"), self.halves(p), strict=True):
                for k, a in part.items():
                    terms[k].append((a, f"{name}{index}"))
        return lines + [f"d[{k}] = {total(terms[k])};" for k in range(self.count)]

    def output(self) -> list[str]:
        """y = A^T m."""
        lines = [
            f"const Floats sum{k} = m[{k}] + m[{k + 1}], diff{k} = m[{k}] - m[{k + 1}];"
            for k, _ in self.pairs
        ]
        for j in range(self.tile):
            terms = [(Fraction(1), "m[0]") for _ in self.zero if j == 0]
            terms += [(p**j, f"{'diff' if j % 2 else 'sum'}{k}") for k, p in self.pairs]
            if j == self.tile - 1:
                terms.append((Fraction(1), f"m[{self.count - 1}]"))
            lines.append(f"y[{j}] = {total(terms)};")
        return lines

    def output_adjoint(self) -> list[str]:
        """m = A y."""
        lines = ["m[0] = y[0];" for _ in self.zero]
        for k, p in self.pairs:
            for name, start in (("even", 0), ("odd", 1)):
                terms = [(p**j, f"y[{j}]") for j in range(start, self.tile, 2)]
                lines.append(f"const Floats {name}{k} = {total(terms)};")
            lines.append(f"m[{k}] = even{k} + odd{k};")
            lines.append(f"m[{k + 1}] = even{k} - odd{k};")
        return [*lines, f"m[{self.count - 1}] = y[{self.tile - 1}];"]

    def kernel(self) -> list[list[Fraction]]:
        """G [n, 3]."""
        rows = []
        for p in self.points:
            denominator = Fraction(1)
            for q in self.points:
                if q != p:
                    denominator *= p - q
            rows.append([p**k / denominator for k in range(3)])
        return [*rows, [Fraction(0), Fraction(0), Fraction(1)]]

    def cpp(self) -> str:
        """The C++ of this tile size."""
        n, m = self.count, self.tile
        names = ", ".join(str(p) for p in self.points)
        text = f"// F({m}, 3) at the points {names} and infinity.\n"
        text += "template <>\n"
        text += f"struct Winograd<{m}> {{\n"
        text += f"    static constexpr int kTile = {m}, kPoints = {n};\n"
        text += f"    static constexpr double kKernel[{n}][3] = {{\n"
        for row in self.kernel():
            cells = ", ".join(
                f"{a.numerator}.0" + (f" / {a.denominator}.0" if a.denominator > 1 else "")
                for a in row
            )
            text += f"        {{{cells}}},\n"
        text += "    };\n"
        for name, given, size, made, lines in (
            ("input", "d", n, f"v[{n}]", self.input()),
            ("input_adjoint", "v", n, f"d[{n}]", self.input_adjoint()),
            ("output", "m", n, f"y[{m}]", self.output()),
            ("output_adjoint", "y", m, f"m[{n}]", self.output_adjoint()),
        ):
            text += (
                f"    static SIMGAN_FAST_INLINE void {name}"
                f"(const Floats {given}[{size}], Floats {made}) {{\n"
            )
            text += "".join(f"        {line}\n" for line in lines) + "    }\n"
        return text + "};\n"


HEADER = """\
// Written by winograd_transforms.py, which says what it is; change that and run it again.
// clang-format off
#pragma once

#include "cpu/vector.h"

namespace simgan_fast {
namespace {

// One dimension of F(kTile, 3) on kPoints = kTile + 2 points: input is B^T, output A^T, kKernel G.
template <int tile>
struct Winograd;

"""

if __name__ == "__main__":
    parts = [Transforms(tile).cpp() for tile in PAIRS]
    print(HEADER + "\n".join(parts) + "\n}  // namespace\n}  // namespace simgan_fast", flush=True)
