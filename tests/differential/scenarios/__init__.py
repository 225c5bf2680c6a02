"""The scenarios, one module per theme. A scenario is a function of a `Stage`; `catalogue` collects them by `theme.function`."""
