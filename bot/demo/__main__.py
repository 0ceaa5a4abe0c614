"""`python -m bot.demo FOLDER`."""

import shutil
import sys
from pathlib import Path

from bot.demo import write

folder = Path(sys.argv[1])
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir(parents=True)
write(folder)
