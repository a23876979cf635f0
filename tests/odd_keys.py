"""Keys that are right in every way, and that servers cannot use."""

from __future__ import annotations

import math

from cryptography.hazmat.primitives.asymmetric import rsa


def unreadable_key() -> rsa.RSAPrivateKey:
    """Return a key that is right in every way, and whose exponent is larger than the servers' library takes."""
    known = rsa.generate_private_key(65537, 2048).private_numbers()
    totient = (known.p - 1) * (known.q - 1)
    exponent = next(each for each in range(2**33 + 1, 2**34, 2) if math.gcd(each, totient) == 1)
    own = pow(exponent, -1, totient)
    one, other = rsa.rsa_crt_dmp1(own, known.p), rsa.rsa_crt_dmq1(own, known.q)
    public = rsa.RSAPublicNumbers(exponent, known.p * known.q)
    return rsa.RSAPrivateNumbers(known.p, known.q, own, one, other, known.iqmp, public).private_key()
