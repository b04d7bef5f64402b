"""Names, addresses and hashes of the ImageNet weights, as Keras 3.15.1 asks for them.

Written by ``tools/backbone_table.py --print``; not edited by hand.
"""

from __future__ import annotations

# (address of the folder, ending of the files without the top, backbone: (top file without .h5,
# hash Keras pins without the top, and with it))
FOLDERS: tuple[tuple[str, str, dict[str, tuple[str, str | None, str | None]]], ...] = (
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/",
        "_notop.h5",
        {
            "vgg16": (
                "vgg16_weights_tf_dim_ordering_tf_kernels",
                "6d6bbae143d832006294945121d1f1fc",
                "64373286793e3c8b2b4e3219cbf3544b",
            ),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/",
        "_notop.h5",
        {
            "vgg19": (
                "vgg19_weights_tf_dim_ordering_tf_kernels",
                "253f8cb515780f3b799900260a226db6",
                "cbe5617147190e668d6c5d5026f83318",
            ),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/resnet/",
        "_notop.h5",
        {
            "resnet50": (
                "resnet50_weights_tf_dim_ordering_tf_kernels",
                "4d473c1dd8becc155b73f8504c6f6626",
                "2cb95161c43110f7111970584f804107",
            ),
            "resnet101": (
                "resnet101_weights_tf_dim_ordering_tf_kernels",
                "88cf7a10940856eca736dc7b7e228a21",
                "f1aeb4b969a6efcfb50fad2f0c20cfc5",
            ),
            "resnet152": (
                "resnet152_weights_tf_dim_ordering_tf_kernels",
                "ee4c566cf9a93f14d82f913c2dc6dd0c",
                "100835be76be38e30d865e96f2aaae62",
            ),
            "resnet50_v2": (
                "resnet50v2_weights_tf_dim_ordering_tf_kernels",
                "fac2f116257151a9d068a22e544a4917",
                "3ef43a0b657b3be2300d5770ece849e0",
            ),
            "resnet101_v2": (
                "resnet101v2_weights_tf_dim_ordering_tf_kernels",
                "c0ed64b8031c3730f411d2eb4eea35b5",
                "6343647c601c52e1368623803854d971",
            ),
            "resnet152_v2": (
                "resnet152v2_weights_tf_dim_ordering_tf_kernels",
                "ed17cf2e0169df9d443503ef94b23b33",
                "a49b44d1979771252814e80f8ec446f9",
            ),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/",
        "_no_top.h5",
        {
            "mobilenet": ("mobilenet_1_0_224_tf", None, None),
            "mobilenet_0.25": ("mobilenet_2_5_224_tf", None, None),
            "mobilenet_0.50": ("mobilenet_5_0_224_tf", None, None),
            "mobilenet_0.75": ("mobilenet_7_5_224_tf", None, None),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/",
        "_no_top.h5",
        {
            "mobilenet_v2": ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224", None, None),
            "mobilenet_v2_0.35": ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224", None, None),
            "mobilenet_v2_0.50": ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.5_224", None, None),
            "mobilenet_v2_0.75": ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.75_224", None, None),
            "mobilenet_v2_1.30": ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.3_224", None, None),
            "mobilenet_v2_1.40": ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.4_224", None, None),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v3/",
        "_no_top_v2.h5",
        {
            "mobilenet_v3_small": (
                "weights_mobilenet_v3_small_224_1.0_float",
                "d3e8ec802a04aa4fc771ee12a9a9b836",
                "8768d4c2e7dee89b9d02b2d03d65d862",
            ),
            "mobilenet_v3_small_0.75": (
                "weights_mobilenet_v3_small_224_0.75_float",
                "ebdb5cc8e0b497cd13a7c275d475c819",
                "cb65d4e5be93758266aa0a7f2c6708b7",
            ),
            "mobilenet_v3_small_minimalistic": (
                "weights_mobilenet_v3_small_minimalistic_224_1.0_float",
                "cde8136e733e811080d9fcd8a252f7e4",
                "99cd97fb2fcdad2bf028eb838de69e37",
            ),
            "mobilenet_v3_large": (
                "weights_mobilenet_v3_large_224_1.0_float",
                "07fb09a5933dd0c8eaafa16978110389",
                "59e551e166be033d707958cf9e29a6a7",
            ),
            "mobilenet_v3_large_0.75": (
                "weights_mobilenet_v3_large_224_0.75_float",
                "40af19a13ebea4e2ee0c676887f69a2e",
                "765b44a33ad4005b3ac83185abf1d0eb",
            ),
            "mobilenet_v3_large_minimalistic": (
                "weights_mobilenet_v3_large_minimalistic_224_1.0_float",
                "ec5221f64a2f6d1ef965a614bdae7973",
                "675e7b876c45c57e9e63e6d90a36599c",
            ),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/densenet/",
        "_notop.h5",
        {
            "densenet121": (
                "densenet121_weights_tf_dim_ordering_tf_kernels",
                "30ee3e1110167f948a6b9946edeeb738",
                "9d60b8095a5708f2dcce2bca79d332c7",
            ),
            "densenet169": (
                "densenet169_weights_tf_dim_ordering_tf_kernels",
                "b8c4d4c20dd625c148057b9ff1c1176b",
                "d699b8f76981ab1b30698df4c175e90b",
            ),
            "densenet201": (
                "densenet201_weights_tf_dim_ordering_tf_kernels",
                "c13680b51ded0fb44dff2d8f86ac8bb1",
                "1ceb130c1ea1b78c3bf6114dbdfd8807",
            ),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/",
        "_notop.h5",
        {
            "inception_v3": (
                "inception_v3_weights_tf_dim_ordering_tf_kernels",
                "bcbd6486424b2319ff4ef7d526e38f63",
                "9a0d58056eeedaa3f26cb7ebd46da564",
            ),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/inception_resnet_v2/",
        "_notop.h5",
        {
            "inception_resnet_v2": (
                "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels",
                "d19885ff4a710c122648d3b5c3b684e4",
                "e693bd0210a403b3192acc6073ad2e96",
            ),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/xception/",
        "_notop.h5",
        {
            "xception": (
                "xception_weights_tf_dim_ordering_tf_kernels",
                "b0042744bf5b25fce3cb969f33bebb97",
                "0a58e3b7378bc2990ea3b43d5981f1f6",
            ),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/nasnet/",
        "_no_top.h5",
        {
            "nasnet_mobile": ("nasnet_mobile", "1ed92395b5b598bdda52abe5c0dbfd63", "020fb642bf7360b370c678b08e0adf61"),
            "nasnet_large": ("nasnet_large", "d81d89dc07e6e56530c4e77faddd61b5", "11577c9a518f0070763c2b964a382f17"),
        },
    ),
    (
        "https://storage.googleapis.com/keras-applications/",
        "_notop.h5",
        {
            "efficientnet_b0": (
                "efficientnetb0",
                "50bc09e76180e00e4465e1a485ddc09d",
                "902e53a9f72be733fc0bcb005b3ebbac",
            ),
            "efficientnet_b1": (
                "efficientnetb1",
                "74c4e6b3e1f6a1eea24c589628592432",
                "1d254153d4ab51201f1646940f018540",
            ),
            "efficientnet_b2": (
                "efficientnetb2",
                "111f8e2ac8aa800a7a99e3239f7bfb39",
                "b15cce36ff4dcbd00b6dd88e7857a6ad",
            ),
            "efficientnet_b3": (
                "efficientnetb3",
                "af6d107764bb5b1abb91932881670226",
                "ffd1fdc53d0ce67064dc6a9c7960ede0",
            ),
            "efficientnet_b4": (
                "efficientnetb4",
                "ebc24e6d6c33eaebbd558eafbeedf1ba",
                "18c95ad55216b8f92d7e70b3a046e2fc",
            ),
            "efficientnet_b5": (
                "efficientnetb5",
                "38879255a25d3c92d5e44e04ae6cec6f",
                "ace28f2a6363774853a83a0b21b9421a",
            ),
            "efficientnet_b6": (
                "efficientnetb6",
                "9ecce42647a20130c1f39a5d4cb75743",
                "165f6e37dce68623721b423839de8be5",
            ),
            "efficientnet_b7": (
                "efficientnetb7",
                "cbcfe4450ddf6f3ad90b1b398090fe4a",
                "8c03f828fec3ef71311cd463b6759d99",
            ),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/",
        "_notop.h5",
        {
            "efficientnet_v2_b0": (
                "efficientnetv2-b0",
                "893217f2bb855e2983157299931e43ff",
                "21ecbf6da12460d5c40bb2f29ceb2188",
            ),
            "efficientnet_v2_b1": (
                "efficientnetv2-b1",
                "0e80663031ca32d657f9caa404b6ec37",
                "069f0534ff22adf035c89e2d9547a9dc",
            ),
            "efficientnet_v2_b2": (
                "efficientnetv2-b2",
                "1dfe2e7a5d45b6632553a8961ea609eb",
                "424e49f28180edbde1e94797771950a7",
            ),
            "efficientnet_v2_b3": (
                "efficientnetv2-b3",
                "f6abf7b5849ac99a89b50dd3fd532856",
                "1f1fc43bd98a6e4fd8fdfd551e02c7a0",
            ),
            "efficientnet_v2_s": (
                "efficientnetv2-s",
                "af0682fb74e8c54910f2d4393339c070",
                "e1d88a8495beba45748fedd0cecbe016",
            ),
            "efficientnet_v2_m": (
                "efficientnetv2-m",
                "1b8dc055df72dde80d614482840fe342",
                "a3bf6aa3276309f4fc6a34aa114c95cd",
            ),
            "efficientnet_v2_l": (
                "efficientnetv2-l",
                "b0b66b5c863aef5b46e8608fe1711615",
                "27e6d408b53c7ebc868fefa357689935",
            ),
        },
    ),
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/convnext/",
        "_notop.h5",
        {
            "convnext_tiny": (
                "convnext_tiny",
                "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
                "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
            ),
            "convnext_small": (
                "convnext_small",
                "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
                "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
            ),
            "convnext_base": (
                "convnext_base",
                "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
                "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
            ),
            "convnext_large": (
                "convnext_large",
                "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
                "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
            ),
            "convnext_xlarge": (
                "convnext_xlarge",
                "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
                "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
            ),
        },
    ),
)

# Files that the server calls otherwise than the local folder does.
REMOTE_NAMES = {
    "nasnet_mobile_no_top.h5": "NASNet-mobile-no-top.h5",
    "nasnet_mobile.h5": "NASNet-mobile.h5",
    "nasnet_large_no_top.h5": "NASNet-large-no-top.h5",
    "nasnet_large.h5": "NASNet-large.h5",
}
