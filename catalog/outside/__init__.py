"""How servers of others are spoken to: where what they name may lead, and how much is read of it.

`addresses` tells what everybody can reach from what only this machine or its network can, `gate`
keeps GDAL to the former, whatever an address redirects to, and `answers` reads small files and
pages of an API, bounded. It stands beside `signing`, on the ground floor.
"""
