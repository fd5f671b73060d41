"""A simulated B2B funnel with known truth: leads, interactions, conversions, revenue and spend, and what is true."""

from .run import simulate, simulation_config_tables
from .simulation import Simulation

__all__ = ["Simulation", "simulate", "simulation_config_tables"]
