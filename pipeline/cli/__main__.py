"""`python -m longtail.pipeline.cli`: the `longtail` command where no console script is on the path."""

from longtail.pipeline.cli import app

if __name__ == "__main__":
    app.main()
