"""Every network and scale of the LKDN paper's tables, and their published relatives.

``parameters`` and ``multi_adds`` are counted here and checked by ``lkdn-zoo check``; ``printed`` is what the paper has;
``measured`` is the quality of the published weights.

The paper's quality figures are its own where its text or its authors' page gives them. The others are the same rows in
the tables of other papers (IMDN, PAN, RFDN, BSRN, ALKDNet, SAFMN, SwinIR, ...), and are left out where those differ.
"""

from dataclasses import replace

from lkdn_deploy.core.counting import Rule
from lkdn_deploy.core.spec import Block, LkdnSpec
from lkdn_models.zoo.facts import Input, Network, Printed, Weights, ZooEntry, five

WIDE_THIRD = (240, 427)
NINTH = (320, 320)
"""As many pixels as a ninth of 1280x720."""
NO_LICENCE = "none stated: for your own checks only"


def _lkdn_c64_a32(scale: int) -> LkdnSpec:
    return LkdnSpec(scale, blocks=8, channels=64, attention_channels=32)


def _lkdn_s_plain(scale: int) -> LkdnSpec:
    return replace(LkdnSpec.lkdn_s(scale), block=Block.BSB)


def _lkdn_s_bsrb(scale: int) -> LkdnSpec:
    return replace(LkdnSpec.lkdn_s(scale), block=Block.BSRB)


def _lkdn_weights(file: str, sha256: str) -> Weights:
    return Weights(
        "stella-von/LKDN",
        "54df78a491142c2503d9738192b767ceced4d1a1",
        f"experiments/pretrained_models/LKDN/{file}",
        sha256,
        "MIT, (c) 2023 StellaXx",
    )


def _bsrn_weights(file: str, sha256: str) -> Weights:
    return Weights(
        "xiaom233/BSRN",
        "2d63d5239c9fa9810b9c1aea93e98d42ece09efc",
        f"experiments/pretrained_models/{file}",
        sha256,
        "MIT, (c) 2022 Hoven Li",
    )


def _vapsr_weights(file: str, sha256: str) -> Weights:
    return Weights("zhoumumu/VapSR", "404c584e21ed92b3c9ddc3da8272d366c978148f", file, sha256, NO_LICENCE)


def _rlfn_weights(file: str, sha256: str) -> Weights:
    return Weights(
        "bytedance/RLFN",
        "bccfde91bf8b2de80789ec033a029e6f2a932330",
        f"model_zoo/{file}",
        sha256,
        "Apache-2.0, Copyright 2022 ByteDance",
    )


def _imdn_weights(file: str, sha256: str) -> Weights:
    return Weights(
        "Zheng222/IMDN", "8f158e6a5ac9db6e5857d9159fd4a6c4214da574", f"checkpoints/{file}", sha256, NO_LICENCE
    )


def _pan_weights(file: str, sha256: str) -> Weights:
    return Weights(
        "zhaohengyuan1/PAN",
        "4d045d18592c5771cd3990da88f292812774e538",
        f"experiments/pretrained_models/{file}",
        sha256,
        NO_LICENCE,
    )


def _idn_weights(file: str, sha256: str) -> Weights:
    return Weights(
        "Zheng222/IDN-Caffe",
        "482c601336000f5c00b0e93f83a525f0fc917830",
        f"test/caffemodel/{file}",
        sha256,
        NO_LICENCE,
        converter="tools/convert_idn.py",
    )


_CARN_M_WEIGHTS = Weights(
    "nmhkahn/CARN-pytorch",
    "40d3514f81cccd680d846cd5ab07af35f2c8e0e2",
    "checkpoint/carn_m.pth",
    "d48a759a84509351facb6b7c6d5bd6edec98b98519b8c464ee4ab44d2ba964ff",
    "MIT",
)
_VDSR_WEIGHTS = Weights(
    "huangzehao/caffe-vdsr",
    "5a839232d179c10736ed94e7142068b168b61cf6",
    "Test/VDSR_Official.mat",
    "f613166660840af1a2ca47e31b0337b951e7c4e094364f6135a16d81a55c323c",
    "MIT for the repository; the weights are from the VDSR authors' test code, whose terms are not stated",
    converter="tools/convert_vdsr.py",
)
_RFDN_AIM_WEIGHTS = Weights(
    "ofsoundof/NTIRE2023_ESR",
    "a6d76c7b921daa8709c7061f308b1cd06a31a35b",
    "model_zoo/team00_rfdn.pth",
    "11af8ec8ebd68689e90ef1e29044f9804c72d3bd9f7573820b7b26035782760c",
    "MIT, (c) 2021 njulj, (c) 2023 NTIRE organisers",
)

LKDN_PAPER = 'Xie et al., "Large Kernel Distillation Network for Efficient Single Image Super-Resolution", CVPR-W 2023'
BSRN_PAPER = 'Li et al., "Blueprint Separable Residual Network for Efficient Image Super-Resolution", CVPR-W 2022'
VAPSR_PAPER = 'Zhou et al., "Efficient Image Super-Resolution using Vast-Receptive-Field Attention", ECCV-W 2022'
RLFN_PAPER = 'Kong et al., "Residual Local Feature Network for Efficient Super-Resolution", CVPR-W 2022'
RFDN_PAPER = 'Liu et al., "Residual Feature Distillation Network for Lightweight Image Super-Resolution", ECCV-W 2020'
CARN_PAPER = 'Ahn et al., "Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network", ECCV 2018'
IDN_PAPER = (
    'Hui et al., "Fast and Accurate Single Image Super-Resolution via Information Distillation Network", CVPR 2018'
)

LKDN = Network("lkdn", LKDN_PAPER, "lkdn:LKDN", rule=Rule.T, spec=LkdnSpec.lkdn)
LKDN_S = Network("lkdn-s", LKDN_PAPER, "lkdn:LKDN", rule=Rule.T, spec=LkdnSpec.lkdn_s)
BSRN = Network("bsrn", BSRN_PAPER, "bsrn:BSRN", rule=Rule.B_POOLS)
BSRN_S = Network("bsrn-s", BSRN_PAPER, "bsrn:BSRN.small", remark="the entry to NTIRE 2022's efficiency challenge")
VAPSR = Network("vapsr", VAPSR_PAPER, "vapsr:VAPSR")
VAPSR_S = Network("vapsr-s", VAPSR_PAPER, "vapsr:VAPSR.small")
RLFN = Network("rlfn", RLFN_PAPER, "rlfn:RLFN", Input.RGB_255)
RLFN_S = Network("rlfn-s", RLFN_PAPER, "rlfn:RLFN.small", Input.RGB_255)
RLFN_NTIRE = Network(
    "rlfn-ntire",
    RLFN_PAPER,
    "rlfn:RLFN.challenge",
    Input.RGB_255,
    remark="the winner of NTIRE 2022's efficiency challenge in runtime",
)
RFDN = Network(
    "rfdn", RFDN_PAPER, "rfdn:RFDN", Input.RGB_255, remark="the network of the papers' tables, never released"
)
RFDN_L = Network("rfdn-l", RFDN_PAPER, "rfdn:RFDN.large", Input.RGB_255)
RFDN_AIM = Network(
    "rfdn-aim",
    RFDN_PAPER,
    "rfdn:RFDN.challenge",
    Input.RGB_255,
    remark="E-RFDN, the entry to AIM 2020's challenge and the baseline of NTIRE's efficiency challenges",
)
PAN = Network("pan", 'Zhao et al., "Efficient Image Super-Resolution Using Pixel Attention", ECCV-W 2020', "pan:PAN")
IMDN = Network(
    "imdn",
    'Hui et al., "Lightweight Image Super-Resolution with Information Multi-distillation Network", ACM MM 2019',
    "imdn:IMDN",
)
LAPAR_A = Network(
    "lapar-a",
    'Li et al., "LAPAR: Linearly-Assembled Pixel-Adaptive Regression Network for Single Image Super-Resolution and '
    'Beyond", NeurIPS 2020',
    "lapar:LAPAR",
    rule=Rule.B,
    remark="Multi-Adds without the fixed filters and their assembly, as its paper counts",
)
CARN = Network("carn", CARN_PAPER, "carn:CARN", shared_weights=True, remark="parameters are of all three up-samplers")
CARN_M = Network("carn-m", CARN_PAPER, "carn:CARN.mobile", shared_weights=True)
IDN = Network("idn", IDN_PAPER, "idn:IDN", Input.LUMA, remark="the released network")
IDN_RGB = Network(
    "idn-rgb", IDN_PAPER, "idn:IDN.rgb", remark="reconstructed from the Multi-Adds in later papers, never published"
)
MEMNET = Network(
    "memnet",
    'Tai et al., "MemNet: A Persistent Memory Network for Image Restoration", ICCV 2017',
    "memnet:MemNet",
    Input.ENLARGED_LUMA,
    shared_weights=True,
)
DRRN = Network(
    "drrn",
    'Tai et al., "Image Super-Resolution via Deep Recursive Residual Network", CVPR 2017',
    "drrn:DRRN",
    Input.ENLARGED_LUMA,
    shared_weights=True,
)
LAPSRN = Network(
    "lapsrn",
    'Lai et al., "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution", CVPR 2017',
    "lapsrn:LapSRN",
    Input.LUMA,
    Rule.C_OUT,
    remark="its weights are published in MatConvNet's format, which nothing here reads",
)
VDSR = Network(
    "vdsr",
    'Kim et al., "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016',
    "vdsr:VDSR",
    Input.ENLARGED_LUMA,
    shared_weights=True,
)
FSRCNN = Network(
    "fsrcnn",
    'Dong et al., "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016',
    "fsrcnn:FSRCNN",
    Input.LUMA,
    Rule.C_OUT,
)
SRCNN_PAPER = 'Dong et al., "Image Super-Resolution Using Deep Convolutional Networks", TPAMI 2016'
SRCNN = Network("srcnn", SRCNN_PAPER, "srcnn:SRCNN", Input.ENLARGED_LUMA, remark="9-5-5, its paper's best")
SRCNN_915 = Network(
    "srcnn-915", SRCNN_PAPER, "srcnn:SRCNN.narrow", Input.ENLARGED_LUMA, remark="9-1-5, its paper's smallest"
)
BSRN_PLAIN = Network("bsrn-wo-esa-cca", LKDN_PAPER, "bsrn:BSRN.without_attention", rule=Rule.B)
LKDN_C64_A32 = Network("lkdn-c64-a32", LKDN_PAPER, "lkdn:LKDN", rule=Rule.T, spec=_lkdn_c64_a32)
LKDN_S_BSB = Network("lkdn-s-bsb", LKDN_PAPER, "lkdn:LKDN", rule=Rule.T, spec=_lkdn_s_plain)
LKDN_S_BSRB = Network("lkdn-s-bsrb", LKDN_PAPER, "lkdn:LKDN", rule=Rule.T, spec=_lkdn_s_bsrb)

_LAPSRN_REMARK = (
    "251 K is a level of 5 convolutions and a 4x4 up-convolution, the published weights have 10 and 3x3; 29.9 G is one "
    "level for a 640x360 output"
)
_SRCNN_REMARK = "8 K is 9-1-5; 52.7 G and the PSNR are 9-5-5"
_IDN_REMARK = "553 K is the released luma network; the Multi-Adds are idn-rgb's"
_RFDN_REMARK = "the Multi-Adds are the AIM network's, its x4 up-sampler run at this input size"
ENTRIES = (
    ZooEntry(
        LKDN,
        2,
        303_812,
        69.1311,
        99,
        printed=Printed("5", "304", "69.1", five("38.12/0.9611 33.90/0.9202 - - -")),
        measured={"Set5": (38.114, 0.9610), "Set14": (33.850, 0.9202)},
        weights=_lkdn_weights("LKDN_x2.pth", "02b429e795ad0863fdf21c6924c79344e30a39d637c44442d13124193b012e6b"),
    ),
    ZooEntry(
        LKDN,
        3,
        311_387,
        31.4498,
        99,
        printed=Printed("5", "311", "31.4", five("34.54/0.9285 30.52/0.8455 - - -")),
        measured={"Set5": (34.531, 0.9283), "Set14": (30.507, 0.8456)},
        weights=_lkdn_weights("LKDN_x3.pth", "52835d49d402683ea2085c13e4afc3aca49f6b806ea29d6ed29b2238cd7874c5"),
    ),
    ZooEntry(
        LKDN,
        4,
        321_992,
        18.3279,
        99,
        printed=Printed(
            "4, 5", "322", "18.3", five("32.39/0.8979 28.79/0.7859 27.69/0.7402 26.42/0.7965 30.97/0.9140")
        ),
        measured={
            "Set5": (32.390, 0.8979),
            "Set14": (28.796, 0.7860),
            "B100": (27.692, 0.7401),
            "Urban100": (26.416, 0.7964),
        },
        weights=_lkdn_weights("LKDN_x4.pth", "f534422583c99dad994fd7df897f6f872637218430cfedf6c2d2a072ea86dbd7"),
    ),
    ZooEntry(LKDN_S, 2, 115_533, 26.1999, 63),
    ZooEntry(LKDN_S, 3, 121_218, 12.2059, 63),
    ZooEntry(
        LKDN_S,
        4,
        129_177,
        7.3338,
        63,
        printed=Printed("5", "129", "7.3", five("32.10/0.8938 28.62/0.7821 27.59/0.7371 26.07/0.7845 -")),
        measured={
            "Set5": (32.102, 0.8938),
            "Set14": (28.619, 0.7821),
            "B100": (27.595, 0.7370),
            "Urban100": (26.064, 0.7844),
        },
        weights=_lkdn_weights("LKDN-S_x4.pth", "39ff2c69cdeb40f842c9f93368caee3323a4309c350373edeb2dc9ef3cc05851"),
    ),
    ZooEntry(
        BSRN,
        2,
        331_628,
        72.9947,
        None,
        printed=Printed("5", "332", "73.0", five("38.10/0.9610 33.74/0.9193 32.24/0.9006 32.34/0.9303 39.14/0.9782")),
        measured={"Set5": (38.083, 0.9608), "Set14": (33.730, 0.9193)},
        weights=_bsrn_weights("net_g_BSRN_x2.pth", "09bd1f85e017c7902e65a9c9770ee592efe3d013f6b5cf1fe7de8cabac4ba37d"),
    ),
    ZooEntry(
        BSRN,
        3,
        340_283,
        33.2753,
        None,
        printed=Printed("5", "340", "33.3", five("34.46/0.9277 30.47/0.8449 29.18/0.8068 28.39/0.8567 34.05/0.9471")),
        measured={"Set5": (34.450, 0.9276), "Set14": (30.469, 0.8449)},
        weights=_bsrn_weights("net_g_BSRN_x3.pth", "6eb73a300aaec5029bc0de7f5ae85c02b8dcd8fdaf438c77f90272939fecca7e"),
    ),
    ZooEntry(
        BSRN,
        4,
        352_400,
        19.444,
        None,
        printed=Printed(
            "4, 5", "352", "19.4", five("32.35/0.8966 28.73/0.7847 27.65/0.7387 26.27/0.7908 30.84/0.9123")
        ),
        measured={"Set5": (32.349, 0.8965), "Set14": (28.735, 0.7847), "B100": (27.648, 0.7386)},
        weights=_bsrn_weights("net_g_BSRN_x4.pth", "47518e0f549f5696da0c84ca2d65bf50d789c7ac20e621909f5fd6c8c8d70bcb"),
    ),
    ZooEntry(
        BSRN_S,
        4,
        156_288,
        8.2878,
        None,
        measured={"Set5": (32.157, 0.8949), "Set14": (28.633, 0.7820)},
        weights=_bsrn_weights("net_g_BSRN-S.pth", "f035e512bcecd2999af21999fdaeb6ed39a4492ac11d214b8164d27e6e958fec"),
    ),
    ZooEntry(
        VAPSR,
        2,
        329_236,
        73.975,
        164,
        printed=Printed("5", "329", "74.0", five("38.08/0.9612 33.77/0.9195 - - -")),
        measured={"Set5": (38.107, 0.9609), "Set14": (33.731, 0.9196)},
        weights=_vapsr_weights("VapSR_X2.pth", "6cbe6af3c18c16c8a2c9b83f484761693884f972e29a4a20e84f64b84d0a10cc"),
    ),
    ZooEntry(
        VAPSR,
        3,
        336_811,
        33.5993,
        164,
        printed=Printed("5", "337", "33.6", five("34.52/0.9284 30.53/0.8452 - - -")),
        measured={"Set5": (34.525, 0.9281), "Set14": (30.515, 0.8454)},
        weights=_vapsr_weights("VapSR_X3.pth", "5c0052ea719174ea43e55f337655196fa1564ba2e0b04c3220a1312a18405a09"),
    ),
    ZooEntry(
        VAPSR,
        4,
        342_220,
        19.5167,
        172,
        printed=Printed(
            "4, 5", "342", "19.5", five("32.38/0.8978 28.77/0.7852 27.68/0.7398 26.35/0.7941 30.89/0.9132")
        ),
        measured={"Set5": (32.400, 0.8974), "Set14": (28.771, 0.7852), "B100": (27.680, 0.7397)},
        weights=_vapsr_weights("VapSR_X4.pth", "fa6b84a174d8994eaaaa38156c9d751109b27c833bceeeb6018523e4d8a48ea0"),
    ),
    ZooEntry(
        VAPSR_S,
        4,
        154_956,
        8.993,
        92,
        measured={"Set5": (32.166, 0.8947), "Set14": (28.645, 0.7826)},
        weights=_vapsr_weights("VapSR-S.pth", "4ca434fcdd4abb327e281b3f7930fe9802b36d3d6acfbe785843fee5db7e0cfe"),
    ),
    ZooEntry(
        RLFN,
        2,
        526_856,
        115.4165,
        None,
        printed=Printed("5", "527", "115.4", five("38.07/0.9607 33.72/0.9187 32.22/0.9000 32.33/0.9299 -")),
        measured={"Set5": (38.066, 0.9607), "Set14": (33.718, 0.9193)},
        weights=_rlfn_weights("rlfn_x2.pth", "eafe5d5feeb122022453595c06d79160facdc157ae88deb02a44c50f5eba2d41"),
    ),
    ZooEntry(RLFN, 3, 533_891, 51.9311, None),
    ZooEntry(
        RLFN,
        4,
        543_740,
        29.8215,
        None,
        printed=Printed(
            "5", "543", "29.8", five("32.24/0.8952 28.62/0.7813 27.60/0.7364 26.17/0.7877 -"), remark="543.740 cut off"
        ),
        measured={"Set5": (32.238, 0.8953), "Set14": (28.620, 0.7814)},
        weights=_rlfn_weights("rlfn_x4.pth", "8c7edb57dfc89048bafba29d591d4c27d4099964b4a9e22df23d6dc257a637c0"),
    ),
    ZooEntry(
        RLFN_S,
        2,
        454_620,
        98.8028,
        None,
        measured={"Set5": (38.047, 0.9607), "Set14": (33.623, 0.9174)},
        weights=_rlfn_weights("rlfn_s_x2.pth", "f5175f499f869c1b884c2552a1bcd6abd07ab352e3d8c8c9abe31b1deb60fe45"),
    ),
    ZooEntry(
        RLFN_S,
        4,
        470_208,
        25.5935,
        None,
        measured={"Set5": (32.239, 0.8954), "Set14": (28.623, 0.7817)},
        weights=_rlfn_weights("rlfn_s_x4.pth", "f769c5a88433786b2db0c2b24da6ca6c92a24c62344b9354a390f8a74388e89d"),
    ),
    ZooEntry(
        RLFN_NTIRE,
        4,
        317_218,
        17.2769,
        None,
        measured={"Set5": (32.097, 0.8939), "Set14": (28.598, 0.7815)},
        weights=_rlfn_weights("rlfn_ntire_x4.pth", "3c9be7b9d7a4bece9b68c83a56a1ffb38010f76413d5f215be6b4be842e18fb2"),
    ),
    ZooEntry(
        RFDN,
        2,
        534_036,
        120.9324,
        None,
        printed=Printed(
            "5",
            "535",
            "95.0",
            five("38.05/0.9606 33.68/0.9184 32.16/0.8994 32.12/0.9278 38.88/0.9773"),
            remark=_RFDN_REMARK + "; 535 K is 534.036",
        ),
    ),
    ZooEntry(
        RFDN,
        3,
        540_531,
        54.3263,
        None,
        printed=Printed(
            "5", "541", "42.2", five("34.41/0.9273 30.34/0.8420 - 28.21/0.8525 33.67/0.9449"), remark=_RFDN_REMARK
        ),
    ),
    ZooEntry(
        RFDN,
        4,
        549_624,
        31.1289,
        None,
        printed=Printed(
            "5",
            "550",
            "23.9",
            five("32.24/0.8952 28.61/0.7819 27.57/0.7360 26.11/0.7858 30.58/0.9089"),
            remark=_RFDN_REMARK + ", with biases",
        ),
    ),
    ZooEntry(RFDN_L, 2, 625_962, 141.7928, None),
    ZooEntry(RFDN_L, 3, 632_997, 63.6383, None),
    ZooEntry(RFDN_L, 4, 642_846, 36.4186, None),
    ZooEntry(
        RFDN_AIM,
        4,
        433_448,
        23.7591,
        None,
        measured={"Set5": (32.159, 0.8946), "Set14": (28.645, 0.7825), "B100": (27.606, 0.7369)},
        weights=_RFDN_AIM_WEIGHTS,
    ),
    ZooEntry(
        PAN,
        2,
        261_403,
        70.519,
        36,
        printed=Printed("5", "261", "70.5", five("38.00/0.9605 33.59/0.9181 32.18/0.8997 32.01/0.9273 38.70/0.9773")),
        measured={"Set5": (38.001, 0.9605), "Set14": (33.593, 0.9181)},
        weights=_pan_weights("PANx2_DF2K.pth", "fcf8ed48656abbaae46309ee91745684b80235a9c8b37a2d8fb0715a3ad3f00f"),
    ),
    ZooEntry(
        PAN,
        3,
        261_403,
        38.9853,
        35,
        printed=Printed("5", "261", "39.0", five("34.40/0.9271 30.36/0.8423 29.11/0.8050 28.11/0.8511 33.61/0.9448")),
        measured={"Set5": (34.400, 0.9272), "Set14": (30.355, 0.8422)},
        weights=_pan_weights("PANx3_DF2K.pth", "86491751d73645a8816a0d6ec62ccde6b22ce5da930e36b3b87f5437167fbc89"),
    ),
    ZooEntry(
        PAN,
        4,
        272_419,
        28.1636,
        36,
        printed=Printed("5", "272", "28.2", five("32.13/0.8948 28.61/0.7822 27.59/0.7363 26.11/0.7854 30.51/0.9095")),
        measured={"Set5": (32.131, 0.8948), "Set14": (28.611, 0.7822)},
        weights=_pan_weights("PANx4_DF2K.pth", "739fab99ee7b7058dab4d1b84aa2869bb9fc3995a1c08789c20355bee943833c"),
    ),
    ZooEntry(
        IMDN,
        2,
        694_404,
        158.7659,
        None,
        printed=Printed("5", "694", "158.8", five("38.00/0.9605 33.63/0.9177 32.19/0.8996 32.17/0.9283 38.88/0.9774")),
        measured={"Set5": (37.996, 0.9605), "Set14": (33.627, 0.9177)},
        weights=_imdn_weights("IMDN_x2.pth", "740b39653592bd3f49955a21cd9e16f2d37f2c413368cc09327601b8fbe42ce1"),
    ),
    ZooEntry(
        IMDN,
        3,
        703_059,
        71.5032,
        None,
        printed=Printed("5", "703", "71.5", five("34.36/0.9270 30.32/0.8417 29.09/0.8046 28.17/0.8519 33.61/0.9445")),
        measured={"Set5": (34.360, 0.9270), "Set14": (30.322, 0.8417)},
        weights=_imdn_weights("IMDN_x3.pth", "11b1716a19bc16e5e353e1db798d476169338e631eb170c82d765559888cb028"),
        counted_at=WIDE_THIRD,
    ),
    ZooEntry(
        IMDN,
        4,
        715_176,
        40.8859,
        None,
        printed=Printed("5", "715", "40.9", five("32.21/0.8948 28.58/0.7811 27.56/0.7353 26.04/0.7838 30.45/0.9075")),
        measured={"Set5": (32.210, 0.8948), "Set14": (28.582, 0.7811)},
        weights=_imdn_weights("IMDN_x4.pth", "e660c38221147217a136debeb99eb304d62d9c0f73ac421ed66281b619719714"),
    ),
    ZooEntry(
        LAPAR_A,
        2,
        547_866,
        170.7614,
        40,
        printed=Printed("5", "548", "171", five("38.01/0.9605 33.62/0.9183 32.19/0.8999 32.10/0.9283 38.67/0.9772")),
    ),
    ZooEntry(
        LAPAR_A,
        3,
        594_266,
        113.6982,
        40,
        printed=Printed(
            "5",
            "544",
            "114",
            five("34.36/0.9267 30.34/0.8421 29.11/0.8054 28.15/0.8523 33.51/0.9441"),
            remark="544 is a misprint of 594",
        ),
    ),
    ZooEntry(
        LAPAR_A,
        4,
        659_226,
        93.9663,
        39,
        printed=Printed("5", "659", "94", five("32.15/0.8944 28.61/0.7818 27.61/0.7366 26.14/0.7871 30.42/0.9074")),
    ),
    ZooEntry(
        CARN,
        2,
        1_591_963,
        222.8311,
        21,
        printed=Printed("5", "1592", "222.8", five("37.76/0.9590 33.52/0.9166 32.09/0.8978 31.92/0.9256 38.36/0.9765")),
    ),
    ZooEntry(
        CARN,
        3,
        1_591_963,
        118.7998,
        21,
        printed=Printed("5", "1592", "118.8", five("34.29/0.9255 30.29/0.8407 29.06/0.8034 28.06/0.8493 -")),
        counted_at=NINTH,
    ),
    ZooEntry(
        CARN,
        4,
        1_591_963,
        90.8823,
        21,
        printed=Printed("5", "1592", "90.9", five("32.13/0.8937 28.60/0.7806 27.58/0.7349 26.07/0.7837 -")),
    ),
    ZooEntry(
        CARN_M,
        2,
        414_811,
        91.1824,
        21,
        measured={"Set5": (37.678, 0.9595), "Set14": (33.303, 0.9152)},
        weights=_CARN_M_WEIGHTS,
    ),
    ZooEntry(
        CARN_M,
        3,
        414_811,
        46.0614,
        21,
        measured={"Set5": (34.058, 0.9248), "Set14": (30.102, 0.8377)},
        weights=_CARN_M_WEIGHTS,
    ),
    ZooEntry(
        CARN_M,
        4,
        414_811,
        32.4897,
        21,
        measured={"Set5": (31.883, 0.8910), "Set14": (28.418, 0.7772)},
        weights=_CARN_M_WEIGHTS,
    ),
    ZooEntry(
        IDN,
        2,
        552_769,
        126.9596,
        30,
        printed=Printed(
            "5",
            "553",
            "124.6",
            five("37.83/0.9600 33.30/0.9148 32.08/0.8985 31.27/0.9196 38.01/0.9749"),
            remark=_IDN_REMARK,
        ),
        measured={"Set5": (37.827, 0.9600), "Set14": (33.292, 0.9148)},
        weights=_idn_weights("IDN_x2.caffemodel", "eed047c60c2af108140e14a1ebcd78701c5645837c35c740419ab3533db26b99"),
    ),
    ZooEntry(
        IDN,
        3,
        552_769,
        56.3383,
        29,
        printed=Printed("5", "553", "56.3", five("34.11/0.9253 29.99/0.8354 28.95/0.8013 27.42/0.8359 32.71/0.9381")),
        measured={"Set5": (34.113, 0.9253), "Set14": (29.988, 0.8355)},
        weights=_idn_weights("IDN_x3.caffemodel", "ef94a2760f3975876021b6be884f27c491e445937934be0339d5711cf1afa1af"),
    ),
    ZooEntry(
        IDN,
        4,
        552_769,
        31.7399,
        28,
        printed=Printed(
            "5",
            "553",
            "32.3",
            five("31.82/0.8903 28.25/0.7730 27.41/0.7297 25.41/0.7632 29.41/0.8942"),
            remark=_IDN_REMARK,
        ),
        measured={"Set5": (31.809, 0.8902), "Set14": (28.244, 0.7730)},
        weights=_idn_weights("IDN_x4.caffemodel", "1be49ba811d6d3f2fd61bbaa345e4a5a70746bb24f723b734dc8af9c817b96c2"),
    ),
    ZooEntry(IDN_RGB, 2, 542_348, 124.5561, 27),
    ZooEntry(IDN_RGB, 3, 551_003, 56.2869, 27, counted_at=WIDE_THIRD),
    ZooEntry(IDN_RGB, 4, 563_120, 32.3334, 27),
    ZooEntry(
        MEMNET,
        2,
        678_215,
        2662.3476,
        39,
        printed=Printed(
            "5",
            "678",
            "2662.4",
            five("37.78/0.9597 33.28/0.9142 32.08/0.8978 31.31/0.9195 37.72/0.9740"),
            remark="2662.348: rounded twice",
        ),
    ),
    ZooEntry(
        MEMNET,
        3,
        678_215,
        2662.3476,
        26,
        printed=Printed(
            "5",
            "678",
            "2662.4",
            five("34.09/0.9248 30.00/0.8350 28.96/0.8001 27.56/0.8376 32.51/0.9369"),
            remark="2662.348: rounded twice",
        ),
    ),
    ZooEntry(
        MEMNET,
        4,
        678_215,
        2662.3476,
        20,
        printed=Printed(
            "5",
            "678",
            "2662.4",
            five("31.74/0.8893 28.26/0.7723 27.40/0.7281 25.50/0.7630 29.42/0.8942"),
            remark="2662.348: rounded twice",
        ),
    ),
    ZooEntry(
        DRRN,
        2,
        297_601,
        6796.8958,
        28,
        printed=Printed("5", "298", "6796.9", five("37.74/0.9591 33.23/0.9136 32.05/0.8973 31.23/0.9188 37.88/0.9749")),
    ),
    ZooEntry(
        DRRN,
        3,
        297_601,
        6796.8958,
        19,
        printed=Printed("5", "298", "6796.9", five("34.03/0.9244 29.96/0.8349 28.95/0.8004 27.53/0.8378 32.71/0.9379")),
    ),
    ZooEntry(
        DRRN,
        4,
        297_601,
        6796.8958,
        15,
        printed=Printed("5", "298", "6796.9", five("31.68/0.8888 28.21/0.7720 27.38/0.7284 25.44/0.7638 29.45/0.8946")),
    ),
    ZooEntry(
        LAPSRN,
        2,
        407_441,
        119.5868,
        12,
        printed=Printed("5", "251", "29.9", five("37.52/0.9591 32.99/0.9124 - - 37.27/0.9740"), remark=_LAPSRN_REMARK),
        measured={"Set5": (37.460, 0.9584), "Set14": (32.959, 0.9119)},
    ),
    ZooEntry(
        LAPSRN,
        4,
        814_242,
        149.3508,
        17,
        printed=Printed("5", "813", "149.4", five("31.54/0.8852 28.09/0.7700 - - -"), remark="813 K is without biases"),
        measured={"Set5": (31.520, 0.8856), "Set14": (28.081, 0.7688)},
    ),
    ZooEntry(
        VDSR,
        2,
        665_921,
        612.5912,
        12,
        printed=Printed("5", "666", "612.6", five("37.53/0.9587 33.03/0.9124 31.90/0.8960 30.76/0.9140 37.22/0.9750")),
        measured={"Set5": (37.527, 0.9587)},
        weights=_VDSR_WEIGHTS,
    ),
    ZooEntry(
        VDSR,
        3,
        665_921,
        612.5912,
        8,
        printed=Printed("5", "666", "612.6", five("33.66/0.9213 29.77/0.8314 28.82/0.7976 27.14/0.8279 32.01/0.9340")),
        measured={"Set5": (33.658, 0.9213)},
        weights=_VDSR_WEIGHTS,
    ),
    ZooEntry(
        VDSR,
        4,
        665_921,
        612.5912,
        7,
        printed=Printed("5", "666", "612.6", five("31.35/0.8838 28.01/0.7674 27.29/0.7251 25.18/0.7524 28.83/0.8870")),
        measured={"Set5": (31.343, 0.8838)},
        weights=_VDSR_WEIGHTS,
    ),
    ZooEntry(
        FSRCNN,
        2,
        12_809,
        6.007,
        8,
        printed=Printed("5", "13", "6.0", five("37.00/0.9558 32.63/0.9088 31.53/0.8920 29.88/0.9020 36.67/0.9710")),
    ),
    ZooEntry(
        FSRCNN,
        3,
        12_809,
        4.9844,
        8,
        printed=Printed("5", "13", "5.0", five("33.18/0.9140 29.37/0.8240 28.53/0.7910 26.43/0.8080 31.10/0.9210")),
    ),
    ZooEntry(
        FSRCNN,
        4,
        12_809,
        4.637,
        7,
        printed=Printed("5", "13", "4.6", five("30.72/0.8660 27.61/0.7550 26.98/0.7150 24.62/0.7280 27.90/0.8610")),
    ),
    ZooEntry(
        SRCNN,
        2,
        57_281,
        52.7008,
        6,
        printed=Printed(
            "5",
            "8",
            "52.7",
            five("36.66/0.9542 32.45/0.9067 31.36/0.8879 29.50/0.8946 35.60/0.9663"),
            remark=_SRCNN_REMARK,
        ),
    ),
    ZooEntry(
        SRCNN,
        3,
        57_281,
        52.7008,
        4,
        printed=Printed(
            "5",
            "8",
            "52.7",
            five("32.75/0.9090 29.30/0.8215 28.41/0.7863 26.24/0.7989 30.48/0.9117"),
            remark=_SRCNN_REMARK,
        ),
    ),
    ZooEntry(
        SRCNN,
        4,
        57_281,
        52.7008,
        4,
        printed=Printed(
            "5",
            "8",
            "52.7",
            five("30.48/0.8626 27.50/0.7513 26.90/0.7101 24.52/0.7221 27.58/0.8555"),
            remark=_SRCNN_REMARK,
        ),
    ),
    ZooEntry(SRCNN_915, 2, 8_129, 7.4023, 5),
    ZooEntry(SRCNN_915, 3, 8_129, 7.4023, 4),
    ZooEntry(SRCNN_915, 4, 8_129, 7.4023, 3),
    ZooEntry(BSRN_PLAIN, 4, 315_248, 18.1583, 35, printed=Printed("1", "315", "18.2")),
    ZooEntry(LKDN_C64_A32, 4, 321_904, 18.3509, 99, printed=Printed("1", "322", "18.4")),
    ZooEntry(LKDN_S_BSB, 4, 129_177, 7.3338, 63),
    ZooEntry(LKDN_S_BSRB, 4, 129_177, 7.3338, 63),
)
