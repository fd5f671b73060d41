"""Features: declared, point in time, computed by compiled kernels over an index of events by lead."""
