"""Query images out of a multipart body. They stay in memory: what was uploaded is never written to disk here."""

from __future__ import annotations

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from gallery_service.errors import BadQuery, WrongMediaType
from gallery_service.query_pictures import MAX_PICTURES

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
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "minItems": 1,
                            "maxItems": MAX_PICTURES,
                            "description": "Crops of one person, or frames with a box each: JPEG, PNG, WebP or BMP, "
                            "10 MiB together.",
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


async def uploaded_images(request: Request, most: int = MAX_PICTURES) -> list[bytes]:
    """The bytes of each multipart field `image`, in order.

    Args:
        request: whose body.
        most: how many there may be; one at least.

    Raises:
        WrongMediaType: the body is not multipart/form-data, or the field says that it is no image.
        BadQuery: there is no such field, there are too many, or the body is malformed.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "multipart/form-data":
        raise WrongMediaType("send the crop as multipart/form-data, in a field named 'image'")
    try:
        parser = _InMemoryParser(request.headers, request.stream(), max_files=most, max_fields=0)
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", "") or "malformed"
        raise BadQuery(
            f"the multipart body cannot be read ({reason}); send 1 to {most} files in fields named 'image'"
        ) from None
    try:
        fields = form.multi_items()
        images = [image for name, image in fields if name == "image" and isinstance(image, UploadFile)]
        if not images or len(images) != len(fields):
            raise BadQuery("send files in fields named 'image' and nothing else; there is none, or something else")
        for image in images:
            declared = (image.content_type or "application/octet-stream").lower()
            if not declared.startswith(_IMAGE_TYPES):
                raise WrongMediaType(f"the field 'image' is of type {declared[:60]!r}; send a JPEG, PNG, WebP or BMP")
        return [await image.read() for image in images]
    finally:
        await form.close()
