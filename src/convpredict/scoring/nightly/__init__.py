"""One night from a champion to published scores: resumable, gated, all or nothing."""
