"""The generated parts of the docs: tables, pictures, and pages that are kept elsewhere in the repository."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
# The reader of stored results stands beside the scripts that write them, which import it as `record`.
sys.path.append(str(ROOT / "scripts" / "benchmarks"))
