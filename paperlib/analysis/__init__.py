"""What is measured on networks and runs: tables, neither drawn nor judged.

A file for each figure or question; ``analysis.ablation`` and so on are loaded when they are first asked for.
"""
from ..system.submodules import on_demand

__getattr__ = on_demand(__name__)
