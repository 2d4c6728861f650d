"""High-Throughput JPEG 2000, written once by OpenJPH through imagecodecs, since no library of the tests writes it."""

# By samples a pixel, 9 x 7 pixels of 8 bits, without loss, in base 85.
CODESTREAMS = {
    1: "|4;u>04YEK0000900007000000000000009000070000000000009R90sl|{2mk^A00092QUDA90ssL31q1{@0smY86Cg-XP*6}%P*6}%P*6"
    "}vNJ#%=02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00000Z2$rPlfWhE00(pc0KgJ}J^_bx0KgHz6F?FG0Am1D>i{A&0R9(q0KgJJ6)*&V_"
    "yuzS!U@X20F!>T0QoC(0Kh6B6;KMG4F%PCcHy-Er7qx6a_m}LmjIJVn)yRx=|pw_|Je",
    3: "|4;u>053oQ000090000700000000000000900007000000000000RdB0S5sA2LS>9Pyh%30ssI21OHM03;+TE0RaUB1V91*TmTawP*_-4SXf"
    "wCSXfwCSWr+<|6~9c00B>MWo}APNFY{aav(4+GBz$VF8`1K3IG5A009{Q0soW05`g&t$8-R|5`ez}2Xp|y5`fhJhjah{006)VK<5AlbO68!K"
    "-vL^bO68!fO`G{2Xp|S1c12`GXTH{-~`YDKo@fWfQA4<Gywi5a{#~y-~`YDKmcO^s<Hq=Gywi5a{!<OumV6?OT1J7`UkTBzzHA)Q~;Fx2eSZ"
    "zK>!fs1CxHW0M!6XbO68!AO%zanD_;A0EB129Pk5^ezgE4zyQf~0KgN#62KCG0R92HJ=Fm42>@gO_y7WA0KgS61zZ7Ed3dV&aaCcp0EwZ=!U"
    "8T`-{Y46V>s)={73F-A+`X(6;K6S0al07m#O}E>oJu8o23$hC;0EbTbBUA%u~~K{x;5|H30wF",
}
