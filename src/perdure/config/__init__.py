"""The configuration: three sections from arguments, environment and a file, validated before anything else happens.

    sections   which settings there are: key, rule, default
    rules      what a value may be
    dsn        connection strings, and how they are shown
    keys       spellings and misspellings
    sources    files, environment, arguments
    loading    precedence; `load` and `Config`

Opens no connection; reads nothing but the one settings file.
"""

from perdure.config.loading import Config, Row, load
from perdure.config.sections import ExecutionConfig, PersistenceConfig, SchedulingConfig

__all__ = ["Config", "ExecutionConfig", "PersistenceConfig", "Row", "SchedulingConfig", "load"]
