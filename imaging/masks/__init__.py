"""Masks of bleed trails, star halos, cosmic rays and streaks."""
