"""Times for people."""

_MOST = 1e11  # three thousand years


def in_words(seconds: float) -> str:
    """In its two largest units, as `3 min 20 s`; below 100 s with a tenth."""
    if not seconds < _MOST:
        return "?"
    if seconds < 99.95:
        return f"{max(seconds, 0.0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
