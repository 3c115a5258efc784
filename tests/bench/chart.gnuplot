# SPDX-License-Identifier: GPL-2.0-only
# The chart of docs/performance.md: a row has two bars on a logarithmic scale,
# and a mark at its target. Reads `bars` (tests/runner/bench.py), writes `chart`.
set terminal svg size 960,640 font "sans-serif,13" background "white"
set output chart
set title "Guest instructions, Linux 7.3: less is better"
set logscale x
set xrange [100:1e9]
set format x "10^{%L}"
set yrange [-0.6:*]
set grid xtics lc rgb "#dddddd"
set border 3
set tics nomirror out
set ytics noenhanced
set key top center outside horizontal
set style fill solid noborder
plot bars using (100):($0+0.19):(100):2:($0+0.04):($0+0.34):ytic(1) with boxxyerror lc rgb "#b0b7c3" title "mainline", \
     bars using (100):($0-0.19):(100):3:($0-0.34):($0-0.04) with boxxyerror lc rgb "#1f6fb2" title "noiommufd", \
     bars using 4:($0-0.19) with points pt 2 ps 0.8 lw 2 lc rgb "#c0392b" title "target"
