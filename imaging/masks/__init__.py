"""Find what is neither sky nor source: bleed trails, star halos, cosmic rays, streaks."""
