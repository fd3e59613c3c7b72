"""The HTTP door: routes, middlewares, handlers, schemas and problem answers. Only this package knows aiohttp's web side."""
