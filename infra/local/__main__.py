"""Runs the commands of the Makefile: ``python -m infra.local up|down|deploy|url|token|demo``."""

import argparse
import os
import sys
import time

from infra.local import demo, launcher, tokens
from infra.local.deploy import Outputs, deploy, deployed_outputs
from infra.local.settings import LocalError, LocalSettings


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. A LocalError becomes one message and exit code 1."""
    parser = argparse.ArgumentParser(prog="infra.local", description="The local stack of the Inference API.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start everything and serve until Ctrl-C")
    commands.add_parser("down", help="stop what is running")
    commands.add_parser("deploy", help="deploy what changed onto the running stack")
    commands.add_parser("url", help="print the addresses")
    commands.add_parser("token", help="print a bearer token").add_argument("email")
    demo_parser = commands.add_parser("demo", help="train models on public data and use them")
    demo_parser.add_argument(
        "--once", action="store_true", help="end after the demo instead of serving; DEMO_ONCE=1 does the same"
    )
    options = parser.parse_args(arguments)
    try:
        settings = LocalSettings.from_environment()
        match options.command:
            case "up":
                up(settings)
            case "down":
                print_line(launcher.shut_down(settings))
            case "deploy":
                running_outputs(settings)
                deploy(settings, print_line)
            case "url":
                print_line(launcher.addresses(settings, running_outputs(settings), user=demo.USER))
            case "token":
                print_line(user_token(settings, running_outputs(settings), options.email))
            case "demo":
                demo.run(settings, once=options.once or bool(os.environ.get("DEMO_ONCE")))
    except LocalError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except (KeyboardInterrupt, launcher.StopRequest):
        print_line("Stopped. The data is kept.")
    return 0


def up(settings: LocalSettings) -> None:
    """Starts the stack, prints its addresses and serves until a signal."""
    started = time.monotonic()
    stack = launcher.LocalStack(settings, print_line)
    with launcher.stopping_on_signals():
        running = stack.start()
        try:
            print_line(f"Ready after {time.monotonic() - started:.0f} s. Ctrl-C stops it. The data stays.\n")
            print_line(launcher.addresses(settings, running.outputs, user=demo.USER))
            stack.watch()
        finally:
            print_line("Stopping …")
            stack.stop()


def running_outputs(settings: LocalSettings) -> Outputs:
    """Returns the outputs of the running stack. Raises LocalError if none runs."""
    if not launcher.running(settings):
        raise LocalError("The local stack is not running. Start it in another terminal with: make up")
    return deployed_outputs(settings)


def user_token(settings: LocalSettings, outputs: Outputs, email: str) -> str:
    """Returns a bearer token of a local user."""
    return tokens.token(settings, email, pool_id=outputs["UserPoolId"], client_id=outputs["UserPoolClientId"])


def print_line(text: str) -> None:
    """Prints a line immediately, also into a pipe. Ignores a closed pipe, such as that of ``make url | head``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes stdout again at its end, which would fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
