"""Small synthetic frames: stars, cosmic rays and streaks on noise."""

import numpy as np

SIGMA = 55.0


def blank(shape=(1024, 1024), seed=1):
    """Noise, its weight, and an empty mask."""
    random = np.random.default_rng(seed)
    science = random.normal(0, SIGMA, shape).astype(np.float32)
    return science, np.full(shape, 1.0 / SIGMA**2, np.float32), np.zeros(shape, np.int16)


def add_star(science, x, y, flux, fwhm, seed=1):
    """Add a Moffat star with its shot noise."""
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / 3.0) - 1))
    half = int(8 * fwhm)
    y0, y1 = max(int(y) - half, 0), min(int(y) + half + 1, science.shape[0])
    x0, x1 = max(int(x) - half, 0), min(int(x) + half + 1, science.shape[1])
    yy, xx = np.mgrid[y0:y1, x0:x1]
    light = flux * 2 / (np.pi * alpha**2) * (1 + ((xx - x) ** 2 + (yy - y) ** 2) / alpha**2) ** -3.0
    noise = np.random.default_rng(seed).normal(0, 1, light.shape) * np.sqrt(light)
    science[y0:y1, x0:x1] += (light + noise).astype(np.float32)


def add_stars(science, n, fwhm, seed=2):
    """Add n stars of 1e3 to 1e6 electrons."""
    random = np.random.default_rng(seed)
    ny, nx = science.shape
    x, y = random.uniform(10, nx - 10, n), random.uniform(10, ny - 10, n)
    flux = 10 ** random.uniform(3, 6, n)
    for k in range(n):
        add_star(science, x[k], y[k], flux[k], fwhm, seed=seed * 1000 + k)
    return x, y, flux


def add_track(science, x, y, length, angle, charge_per_pixel, width=0.5):
    """Add a straight diffused track; return the electrons that it left in each pixel."""
    steps = max(int(length * 4), 1)
    track = np.zeros(science.shape, np.float32)
    offsets = np.arange(-3, 4)
    for s in np.linspace(0, length, steps):
        px, py = x + s * np.cos(angle), y + s * np.sin(angle)
        ix, iy = round(px), round(py)
        wx = np.exp(-0.5 * ((ix + offsets - px) / width) ** 2)
        wy = np.exp(-0.5 * ((iy + offsets - py) / width) ** 2)
        box = np.outer(wy, wx)
        cut = track[iy - 3 : iy + 4, ix - 3 : ix + 4]
        if cut.shape == box.shape:
            cut += charge_per_pixel * max(length, 1.0) / steps * box / box.sum()
    science += track
    return track


def add_streak(science, x, y, angle, peak, fwhm, start=-np.inf, stop=np.inf):
    """Add a ridge with a Moffat-like profile through (x, y); return its light."""
    yy, xx = np.mgrid[0 : science.shape[0], 0 : science.shape[1]]
    ux, uy = np.cos(angle), np.sin(angle)
    along, across = (xx - x) * ux + (yy - y) * uy, (yy - y) * ux - (xx - x) * uy
    alpha = fwhm / (2 * np.sqrt(2**0.4 - 1))
    light = np.where((along > start) & (along < stop), peak * (1 + (across / alpha) ** 2) ** -2.5, 0.0)
    science += light.astype(np.float32)
    return light
