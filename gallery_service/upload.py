"""The query image out of a multipart body. It stays in memory: a query image is never written to disk."""

from __future__ import annotations

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from gallery_service.errors import BadQuery, WrongMediaType

# What a client may call the bytes; what they are is decided by looking at them.
_IMAGE_TYPES = ("image/", "application/octet-stream")

OPENAPI_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {
                            "type": "string",
                            "format": "binary",
                            "description": "A crop of one person: JPEG, PNG, WebP or BMP, at most 10 MiB.",
                        }
                    },
                }
            }
        },
    }
}


class _InMemoryParser(MultiPartParser):
    # The body limit bounds what can arrive; below it nothing goes to a temporary file.
    spool_max_size = 0


async def uploaded_image(request: Request) -> bytes:
    """The bytes of the multipart field `image`.

    Raises:
        WrongMediaType: the body is not multipart/form-data, or the field says that it is no image.
        BadQuery: there is no such field, or the body is malformed.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "multipart/form-data":
        raise WrongMediaType("send the crop as multipart/form-data, in a field named 'image'")
    try:
        parser = _InMemoryParser(request.headers, request.stream(), max_files=1, max_fields=0)
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", "") or "malformed"
        raise BadQuery(
            f"the multipart body cannot be read ({reason}); send one file in a field named 'image'"
        ) from None
    try:
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise BadQuery("there is no file in a field named 'image'; send the crop there")
        declared = (image.content_type or "application/octet-stream").lower()
        if not declared.startswith(_IMAGE_TYPES):
            raise WrongMediaType(f"the field 'image' is of type {declared[:60]!r}; send a JPEG, PNG, WebP or BMP")
        return await image.read()
    finally:
        await form.close()
