"""How the page looks: one column on a phone, and on paper without colours behind it."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.2rem 1rem 4rem; color: #222; background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; }
h1 { margin: 0; font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { margin: 2.4rem 0 .6rem; padding-bottom: .2rem; font-size: 1.15rem; border-bottom: 2px solid #ddd; }
h3 { margin: 1.4rem 0 .4rem; font-size: 1rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; max-width: 46rem; color: #444; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.cards div { padding: .6rem .8rem; border-radius: .4rem; background: #f4f6f8; }
.cards b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.cards span { font-size: .85rem; color: #555; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1.2rem 2rem;
  margin: 1rem 0; }
.charts svg { width: 100%; height: auto; max-width: 36rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .9rem .28rem 0; text-align: right; border-bottom: 1px solid #eee; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; color: #555; }
td { white-space: nowrap; }
td:first-child { white-space: normal; }
.texts th, .texts td { text-align: left; white-space: normal; }
.settings { columns: 20rem; column-gap: 2rem; font-size: .92rem; }
.settings div { display: flex; justify-content: space-between; gap: 1rem; padding: .14rem .4rem;
  border-bottom: 1px solid #eee; break-inside: avoid; }
.settings .changed { background: #fff3d6; font-weight: 600; }
.settings small { font-weight: 400; color: #666; }
.warnings { padding: .1rem 1rem; border-left: .3rem solid #d1570f; background: #fdf1e8; }
figure { margin: 1rem 0; overflow-x: auto; }
figure img { display: block; width: 100%; min-width: 38rem; image-rendering: auto; }
figcaption { position: sticky; left: 0; margin-bottom: .2rem; font-size: .9rem; font-weight: 600; }
@media (max-width: 500px) { body { font-size: 15px; } th, td { padding-right: .6rem; font-size: .85rem; } }
@media print { body { max-width: none; } section, figure, .charts svg { break-inside: avoid; } }
"""
