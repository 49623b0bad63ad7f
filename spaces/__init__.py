"""Search spaces: what an architecture is, which exist, what is near, how it is encoded."""

from nasplug.spaces.base import EnumeratedSpace, Genotypes, Space, encoded_space
from nasplug.spaces.darts import DARTS
from nasplug.spaces.darts_reduced import DARTSS1, DARTSS2, DARTSS3, DARTSS4
from nasplug.spaces.elastic import Elastic
from nasplug.spaces.fbnet import FBNet
from nasplug.spaces.graph import Graph
from nasplug.spaces.nasbench201 import NASBench201
from nasplug.spaces.nasbench_graph import NASBenchGraph, NASBenchGraphProteins
from nasplug.spaces.nasbench_macro import NASBenchMacro
from nasplug.spaces.ofa_mobilenetv3 import OFAMobileNetV3
from nasplug.spaces.parameters import Categorical, Float, Integer, Parameter
from nasplug.spaces.single_path import SinglePathDigits, SinglePathImageNet, SinglePathImageNetSE
from nasplug.spaces.user import ParameterSpace
from nasplug.spaces.widths import MobileNetWidths, ResNetWidths, VGGWidths, WidthSpace

__all__ = [
    "DARTS",
    "DARTSS1",
    "DARTSS2",
    "DARTSS3",
    "DARTSS4",
    "Categorical",
    "Elastic",
    "EnumeratedSpace",
    "FBNet",
    "Float",
    "Genotypes",
    "Graph",
    "Integer",
    "MobileNetWidths",
    "NASBench201",
    "NASBenchGraph",
    "NASBenchGraphProteins",
    "NASBenchMacro",
    "OFAMobileNetV3",
    "Parameter",
    "ParameterSpace",
    "ResNetWidths",
    "SinglePathDigits",
    "SinglePathImageNet",
    "SinglePathImageNetSE",
    "Space",
    "VGGWidths",
    "WidthSpace",
    "encoded_space",
]
