"""A simulated B2B funnel with known truth: the tables of a history, and each lead's true probability."""

from .run import simulate, simulation_config_tables
from .simulation import Simulation

__all__ = ["Simulation", "simulate", "simulation_config_tables"]
