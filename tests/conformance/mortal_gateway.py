"""Plays the gateway, to be killed: two sandboxes of the named driver, which write to the folder as long as they live.

python mortal_gateway.py DRIVER FOLDER
"""

import asyncio
import sys
from pathlib import Path

from conformance.beating import beating
from support.drivers import find


async def main(name: str, folder: Path) -> None:
    driver = find(name)
    sessions = [await driver.start(beating(folder, f"beat{number}")) for number in range(2)]
    for session in sessions:
        await session.stdout.readline()
    print("up", flush=True)
    await asyncio.gather(*(session.wait() for session in sessions))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
