"""`python -m flux_pipeline.cli`: the command line where no script is installed."""

from flux_pipeline.cli import main

main()
