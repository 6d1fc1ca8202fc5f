"""The local stack: the AWS emulator and its additions, the development server and the demo."""
