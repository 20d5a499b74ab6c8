"""Writes winograd_transforms.h: the one-dimensional transforms of Winograd's convolution F(m, 3).

    python csrc/cpu/winograd_transforms.py > csrc/cpu/winograd_transforms.h

F(m, 3) (Winograd 1980; Lavin and Gray, CVPR 2016) multiplies polynomials by their values at n = m + 2 points, the last
of them infinity: y = A^T [(G g) * (B^T d)] for d of n inputs, g of 3 weights, y of m outputs. The rows of B^T are the
Lagrange numerators of the points, G holds their denominators, so that B and A have small coefficients. In two
dimensions each transform is applied to columns and then to rows. docs/numerics.md says how the points were chosen.
"""

from __future__ import annotations

from fractions import Fraction

# The finite points: 0, pairs +-p, and at most one that has no partner. All are exact in binary.
HALF = Fraction(1, 2)
POINTS = {
    4: ([Fraction(3, 4), Fraction(3, 2)], None),
    5: ([Fraction(1), Fraction(2)], HALF),
    6: ([HALF, Fraction(1), Fraction(2)], None),
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
        self.tile, (self.pairs, self.single) = tile, POINTS[tile]
        self.points = [Fraction(0)]
        for p in self.pairs:
            self.points += [p, -p]
        if self.single is not None:
            self.points.append(self.single)
        self.count = tile + 2
        assert len(self.points) == self.count - 1 and len(set(self.points)) == len(self.points)
        # All rows of B^T but its own have the single point's factor (x - c): they are read off
        # s[k] = d[k + 1] - c d[k], of which the remaining, symmetric points make even and odd sums.
        self.source = "d" if self.single is None else "s"

    def numerator(self, without: Fraction | None, *, reduced: bool) -> Polynomial:
        """Product of (x - p) over the points but `without`, and but the single point if `reduced`."""
        left_out = {without, self.single} if reduced else {without}
        return product(*([-p, Fraction(1)] for p in self.points if p not in left_out))

    def rows(self) -> list[tuple[str, Polynomial, str]]:
        """(point's index, coefficients, array they apply to) of rows that are computed alone: 0, c and infinity."""
        reduced = self.single is not None
        rows = [("0", self.numerator(Fraction(0), reduced=reduced), self.source)]
        if self.single is not None:
            rows.append((str(self.count - 2), self.numerator(self.single, reduced=False), "d"))
        rows.append((str(self.count - 1), self.numerator(None, reduced=reduced), self.source))
        return rows

    def pair_rows(self) -> list[tuple[int, Fraction, Polynomial]]:
        """(index of +p, p, coefficients of the row of +p); the row of -p has its odd ones negated."""
        return [
            (1 + 2 * i, p, self.numerator(p, reduced=self.single is not None))
            for i, p in enumerate(self.pairs)
        ]

    def input(self) -> list[str]:
        """v = B^T d."""
        lines = []
        if self.single is not None:
            lines.append(f"Floats s[{self.count - 1}];")
            lines += [
                f"s[{k}] = {total([(Fraction(1), f'd[{k + 1}]'), (-self.single, f'd[{k}]')])};"
                for k in range(self.count - 1)
            ]
        for index, row, source in self.rows():
            lines.append(
                f"v[{index}] = {total([(a, f'{source}[{k}]') for k, a in enumerate(row)])};"
            )
        for index, p, row in self.pair_rows():
            even = total([(a, f"{self.source}[{k}]") for k, a in enumerate(row) if k % 2 == 0])
            odd = total([(a / p, f"{self.source}[{k}]") for k, a in enumerate(row) if k % 2])
            lines.append(f"const Floats even{index} = {even};")
            lines.append(f"const Floats odd{index} = {odd};")
            for i, sign in ((index, p), (index + 1, -p)):
                lines.append(
                    f"v[{i}] = {total([(Fraction(1), f'even{index}'), (sign, f'odd{index}')])};"
                )
        return lines

    def input_adjoint(self) -> list[str]:
        """d = B v."""
        lines, terms = [], {"d": {}, "s": {}}  # type: ignore[var-annotated]
        for index, row, source in self.rows():
            for k, a in enumerate(row):
                terms[source].setdefault(k, []).append((a, f"v[{index}]"))
        for index, p, row in self.pair_rows():
            lines.append(f"const Floats even{index} = v[{index}] + v[{index + 1}];")
            lines.append(
                f"const Floats odd{index} = {total([(p, f'(v[{index}] - v[{index + 1}])')])};"
            )
            for k, a in enumerate(row):
                part = (a, f"even{index}") if k % 2 == 0 else (a / p, f"odd{index}")
                terms[self.source].setdefault(k, []).append(part)
        if self.single is not None:
            lines.append(f"Floats s[{self.count - 1}];")
            lines += [f"s[{k}] = {total(terms['s'].get(k, []))};" for k in range(self.count - 1)]
            for k in range(self.count):
                if k > 0:
                    terms["d"].setdefault(k, []).append((Fraction(1), f"s[{k - 1}]"))
                if k < self.count - 1:
                    terms["d"].setdefault(k, []).append((-self.single, f"s[{k}]"))
        return lines + [f"d[{k}] = {total(terms['d'].get(k, []))};" for k in range(self.count)]

    def output(self) -> list[str]:
        """y = A^T m."""
        lines = []
        for i, _ in enumerate(self.pairs):
            k = 1 + 2 * i
            lines.append(
                f"const Floats sum{k} = m[{k}] + m[{k + 1}], diff{k} = m[{k}] - m[{k + 1}];"
            )
        for j in range(self.tile):
            terms = [(Fraction(1), "m[0]")] if j == 0 else []
            for i, p in enumerate(self.pairs):
                terms.append((p**j, f"{'diff' if j % 2 else 'sum'}{1 + 2 * i}"))
            if self.single is not None:
                terms.append((self.single**j, f"m[{self.count - 2}]"))
            if j == self.tile - 1:
                terms.append((Fraction(1), f"m[{self.count - 1}]"))
            lines.append(f"y[{j}] = {total(terms)};")
        return lines

    def output_adjoint(self) -> list[str]:
        """m = A y."""
        lines = ["m[0] = y[0];"]
        for i, p in enumerate(self.pairs):
            k = 1 + 2 * i
            for name, start in (("even", 0), ("odd", 1)):
                terms = [(p**j, f"y[{j}]") for j in range(start, self.tile, 2)]
                lines.append(f"const Floats {name}{k} = {total(terms)};")
            lines.append(f"m[{k}] = even{k} + odd{k};")
            lines.append(f"m[{k + 1}] = even{k} - odd{k};")
        if self.single is not None:
            terms = [(self.single**j, f"y[{j}]") for j in range(self.tile)]
            lines.append(f"m[{self.count - 2}] = {total(terms)};")
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
    parts = [Transforms(tile).cpp() for tile in POINTS]
    print(HEADER + "\n".join(parts) + "\n}  // namespace\n}  // namespace simgan_fast", flush=True)
