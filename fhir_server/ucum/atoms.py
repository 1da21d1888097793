"""The atoms of UCUM: prefixes, base units, and every other unit by the one it is defined with.

https://ucum.org/ucum#section-Tables-of-Terminal-Symbols

A definition is a number, in decimals or as a fraction, and a term. The mole stays a base unit although UCUM makes it a count: nobody who asks for
5 mmol/L wants particles per litre, and factors stay short. Arbitrary units are base units of their own, since UCUM lets none be converted.
"""

from __future__ import annotations

from typing import Final

PREFIXES: Final = {
    "Y": "1e24", "Z": "1e21", "E": "1e18", "P": "1e15", "T": "1e12", "G": "1e9", "M": "1e6", "k": "1e3", "h": "100", "da": "10", "d": "0.1",
    "c": "0.01", "m": "1e-3", "u": "1e-6", "n": "1e-9", "p": "1e-12", "f": "1e-15", "a": "1e-18", "z": "1e-21", "y": "1e-24",
    "Ki": "1024", "Mi": "1048576", "Gi": "1073741824", "Ti": "1099511627776",
}  # fmt: skip

BASE: Final = frozenset({"m", "s", "g", "rad", "K", "C", "cd", "mol"})
"""They take prefixes."""

ARBITRARY: Final = {
    "[arb'U]", "[USP'U]", "[GPL'U]", "[MPL'U]", "[APL'U]", "[beth'U]", "[anti'Xa'U]", "[todd'U]", "[dye'U]", "[smgy'U]", "[bdsk'U]", "[ka'U]",
    "[knk'U]", "[mclg'U]", "[tb'U]", "[CCID_50]", "[TCID_50]", "[EID_50]", "[PFU]", "[FFU]", "[CFU]", "[IR]", "[BAU]", "[AU]", "[Amb'a'1'U]",
    "[PNU]", "[Lf]", "[D'ag'U]", "[FEU]", "[ELU]", "[EU]", "[hp_X]", "[hp_C]", "[hp_M]", "[hp_Q]", "[kp_X]", "[kp_C]", "[kp_M]", "[kp_Q]",
}  # fmt: skip

TEMPERATURES: Final = {"Cel": ("1", "273.15"), "[degF]": ("5/9", "229835/900"), "[degRe]": ("5/4", "273.15")}
"""Scales with a zero of their own: kelvin = value * first + second. Logarithms, tangents and roots (`[pH]`, `dB`, `%[slope]`) have no factor at all
and are left out, so that they are compared as they are written."""

METRIC: Final = {
    # Derived units of the SI and those used with it.
    "sr": "1 rad2", "Hz": "1 s-1", "N": "1 kg.m/s2", "Pa": "1 N/m2", "J": "1 N.m", "W": "1 J/s", "A": "1 C/s", "V": "1 J/C", "F": "1 C/V",
    "Ohm": "1 V/A", "S": "1 Ohm-1", "Wb": "1 V.s", "T": "1 Wb/m2", "H": "1 Wb/A", "lm": "1 cd.sr", "lx": "1 lm/m2", "Bq": "1 s-1", "Gy": "1 J/kg",
    "Sv": "1 J/kg", "l": "1 dm3", "L": "1 dm3", "ar": "100 m2", "t": "1000 kg", "bar": "100000 Pa", "u": "1.66053906660e-24 g", "eV": "1 [e].V",
    "pc": "3.085678e16 m", "st": "1 m3", "mho": "1 Ohm-1", "tex": "1 g/km",
    # Constants of nature.
    "[c]": "299792458 m/s", "[h]": "6.62607015e-34 J.s", "[k]": "1.380649e-23 J/K", "[eps_0]": "8.854187817e-12 F/m", "[mu_0]": "4e-7 [pi].N/A2",
    "[e]": "1.602176634e-19 C", "[m_e]": "9.1093837139e-31 kg", "[m_p]": "1.67262192595e-27 kg", "[G]": "6.67430e-11 m3.kg-1.s-2",
    "[g]": "9.80665 m/s2", "[ly]": "1 [c].a_j", "gf": "1 g.[g]",
    # Centimetre, gram, second.
    "Ky": "1 cm-1", "Gal": "1 cm/s2", "dyn": "1 g.cm/s2", "erg": "1 dyn.cm", "P": "1 dyn.s/cm2", "Bi": "10 A", "St": "1 cm2/s", "Mx": "1e-8 Wb",
    "G": "1e-4 T", "Oe": "250 A/m/[pi]", "Gb": "1 Oe.cm", "sb": "1 cd/cm2", "Lmb": "1 cd/cm2/[pi]", "ph": "1e-4 lx", "Ci": "37000000000 Bq",
    "R": "2.58e-4 C/kg", "RAD": "100 erg/g", "REM": "100 erg/g",
    # Heat, pressure, chemistry, information.
    "cal_[15]": "4.18580 J", "cal_[20]": "4.18190 J", "cal_m": "4.19002 J", "cal_IT": "4.1868 J", "cal_th": "4.184 J", "cal": "4.184 J",
    "m[H2O]": "9806.65 Pa", "m[Hg]": "133322 Pa", "eq": "1 mol", "osm": "1 mol", "g%": "1 g/dl", "kat": "1 mol/s", "U": "1 umol/min",
    "bit": "1 1", "By": "8 1", "Bd": "1 s-1", "[IU]": "1 [iU]",
}  # fmt: skip
"""They take prefixes, as `[iU]` does."""

PLAIN: Final = {
    # Numbers and angles.
    "10*": "10 1", "10^": "10 1", "%": "0.01 1", "[ppth]": "1e-3 1", "[ppm]": "1e-6 1", "[ppb]": "1e-9 1", "[pptr]": "1e-12 1", "[car_Au]": "1/24 1",
    "[pi]": "3.1415926535897932384626433832795028841971693993751058209749445923 1", "deg": "1/180 [pi].rad", "gon": "1/200 [pi].rad",
    "'": "1/60 deg", "''": "1/3600 deg", "circ": "2 [pi].rad", "sph": "4 [pi].sr", "[HPF]": "1 1", "[LPF]": "100 1", "[hnsf'U]": "1 1",
    "[NTU]": "1 1", "[FNU]": "1 1",
    # Time.
    "min": "60 s", "h": "3600 s", "d": "86400 s", "wk": "604800 s", "a_t": "365.24219 d", "a_j": "365.25 d", "a_g": "365.2425 d", "a": "365.25 d",
    "mo_s": "29.53059 d", "mo_j": "1/12 a_j", "mo_g": "1/12 a_g", "mo": "1/12 a_j", "[S]": "1e-13 s",
    # Length, area and volume, international and of the U.S. survey.
    "[in_i]": "2.54 cm", "[ft_i]": "12 [in_i]", "[yd_i]": "3 [ft_i]", "[mi_i]": "5280 [ft_i]", "[fth_i]": "6 [ft_i]", "[nmi_i]": "1852 m",
    "[kn_i]": "1 [nmi_i]/h", "[sin_i]": "1 [in_i]2", "[sft_i]": "1 [ft_i]2", "[syd_i]": "1 [yd_i]2", "[cin_i]": "1 [in_i]3", "[cft_i]": "1 [ft_i]3",
    "[cyd_i]": "1 [yd_i]3", "[bf_i]": "144 [in_i]3", "[cr_i]": "128 [ft_i]3", "[mil_i]": "1e-3 [in_i]", "[cml_i]": "1/4 [pi].[mil_i]2",
    "[hd_i]": "4 [in_i]", "[mesh_i]": "1 /[in_i]", "[smoot]": "67 [in_i]", "AU": "149597.870691 Mm", "Ao": "0.1 nm", "b": "100 fm2",
    "[Ch]": "1/3 mm", "[diop]": "1 m-1",
    "[ft_us]": "1200/3937 m", "[yd_us]": "3 [ft_us]", "[in_us]": "1/12 [ft_us]", "[rd_us]": "16.5 [ft_us]", "[ch_us]": "66 [ft_us]",
    "[lk_us]": "0.66 [ft_us]", "[rch_us]": "100 [ft_us]", "[rlk_us]": "1 [ft_us]", "[fth_us]": "6 [ft_us]", "[fur_us]": "660 [ft_us]",
    "[mi_us]": "5280 [ft_us]", "[acr_us]": "160 [rd_us]2", "[srd_us]": "1 [rd_us]2", "[smi_us]": "1 [mi_us]2", "[sct]": "1 [mi_us]2",
    "[twp]": "36 [mi_us]2", "[mil_us]": "1e-3 [in_us]",
    "[in_br]": "2.539998 cm", "[ft_br]": "12 [in_br]", "[rd_br]": "16.5 [ft_br]", "[ch_br]": "66 [ft_br]", "[lk_br]": "0.66 [ft_br]",
    "[fth_br]": "6 [ft_br]", "[pc_br]": "2.5 [ft_br]", "[yd_br]": "3 [ft_br]", "[mi_br]": "5280 [ft_br]", "[nmi_br]": "6080 [ft_br]",
    "[kn_br]": "1 [nmi_br]/h", "[acr_br]": "4840 [yd_br]2",
    "[gal_us]": "231 [in_i]3", "[bbl_us]": "42 [gal_us]", "[qt_us]": "1/4 [gal_us]", "[pt_us]": "1/8 [gal_us]", "[gil_us]": "1/32 [gal_us]",
    "[foz_us]": "1/128 [gal_us]", "[fdr_us]": "1/8 [foz_us]", "[min_us]": "1/480 [foz_us]", "[crd_us]": "128 [ft_i]3", "[bu_us]": "2150.42 [in_i]3",
    "[gal_wi]": "1/8 [bu_us]", "[pk_us]": "1/4 [bu_us]", "[dqt_us]": "1/32 [bu_us]", "[dpt_us]": "1/64 [bu_us]", "[tbs_us]": "1/2 [foz_us]",
    "[tsp_us]": "1/6 [foz_us]", "[cup_us]": "8 [foz_us]", "[foz_m]": "30 mL", "[cup_m]": "240 mL", "[tsp_m]": "5 mL", "[tbs_m]": "15 mL",
    "[gal_br]": "4.54609 L", "[pk_br]": "2 [gal_br]", "[bu_br]": "8 [gal_br]", "[qt_br]": "1/4 [gal_br]", "[pt_br]": "1/8 [gal_br]",
    "[gil_br]": "1/32 [gal_br]", "[foz_br]": "1/160 [gal_br]", "[fdr_br]": "1/8 [foz_br]", "[min_br]": "1/480 [foz_br]", "[drp]": "0.05 mL",
    # Weight.
    "[gr]": "64.79891 mg", "[lb_av]": "7000 [gr]", "[oz_av]": "1/16 [lb_av]", "[dr_av]": "1/256 [lb_av]", "[scwt_av]": "100 [lb_av]",
    "[lcwt_av]": "112 [lb_av]", "[ston_av]": "2000 [lb_av]", "[lton_av]": "2240 [lb_av]", "[stone_av]": "14 [lb_av]", "[pwt_tr]": "24 [gr]",
    "[oz_tr]": "480 [gr]", "[lb_tr]": "5760 [gr]", "[sc_ap]": "20 [gr]", "[dr_ap]": "60 [gr]", "[oz_ap]": "480 [gr]", "[lb_ap]": "5760 [gr]",
    "[oz_m]": "28 g", "[car_m]": "0.2 g", "[den]": "1/9 g/km",
    # Type.
    "[lne]": "1/12 [in_i]", "[pnt]": "1/72 [in_i]", "[pca]": "1/6 [in_i]", "[pnt_pr]": "0.013837 [in_i]", "[pca_pr]": "12 [pnt_pr]",
    "[pied]": "32.48 cm", "[pouce]": "1/12 [pied]", "[ligne]": "1/144 [pied]", "[didot]": "1/864 [pied]", "[cicero]": "1/72 [pied]",
    # Heat, work and pressure.
    "[degR]": "5/9 K", "[Cal]": "4184 J", "[Btu_39]": "1059.67 J", "[Btu_59]": "1054.80 J", "[Btu_60]": "1054.68 J", "[Btu_m]": "1055.87 J",
    "[Btu_IT]": "1055.05585262 J", "[Btu_th]": "1054.350 J", "[Btu]": "1054.350 J", "[HP]": "550 [ft_i].[lbf_av]/s", "[lbf_av]": "1 [lb_av].[g]",
    "atm": "101325 Pa", "att": "1 kgf/cm2", "[psi]": "1 [lbf_av]/[in_i]2", "[in_i'H2O]": "1 m[H2O].[in_i]/m", "[in_i'Hg]": "1 m[Hg].[in_i]/m",
    "[PRU]": "1 mm[Hg].s/ml", "[wood'U]": "1 mm[Hg].min/L", "[MET]": "3.5 mL/min/kg",
}  # fmt: skip
"""They take no prefix."""
