"""Words to fill goals and files with. Held-out goals get every fourth of each pool, training goals get the others."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST = _words(
    """
    Ada Ben Carla Dmitri Elena Farid Greta Hugo Ines Jonas Kira Liam Mona Nils Olga Pedro Quinn Rosa Samir Tara Umar
    Vera Walter Xenia Yusuf Zoe Amara Bruno Chloe Diego Edith Felix Gwen Hamid Irene Jamal Keiko Lars Mei Nadia Omar
    Priya Rafael Sofia Tomas Ursula Viktor Wanda Yara Zoltan Alice Boris Clara Dario Emma Fatima Georg Hana Ivan
    Julia Kofi Lucia Marco Nora Oscar Paula Ravi Sara Theo Uma Victor Wendy Anders Beatriz Cyrus Delphine
    """
)
LAST = _words(
    """
    Adler Brandt Costa Duarte Eriksen Fischer Garcia Haddad Ivanova Jensen Kovacs Lindgren Moreau Nakamura Okafor
    Petrov Quiroga Rossi Schmidt Tanaka Ueda Vargas Weber Xu Yilmaz Zeller Andersson Becker Chen Dubois Evans
    Ferrari Gruber Hoffman Ito Jansen Kumar Lopez Mueller Novak Olsen Park Ricci Santos Taylor Ulrich Vogel Walsh
    Young Zhang Meyer Silva Khan Berg Marsh Stone Frost Bell Nash Cole
    """
)
CITIES = _words(
    """
    Berlin Lisbon Oslo Madrid Vienna Prague Dublin Zurich Lyon Porto Turin Ghent Malmo Bergen Krakow Seville Bristol
    Leeds Nantes Bologna Utrecht Aarhus Tampere Riga Vilnius Gdansk Graz Basel Geneva Cork Dresden Bremen Toulouse
    Valencia Naples Athens Sofia Bucharest Zagreb Tallinn Nairobi Lagos Cairo Accra Osaka Kyoto Seoul Busan Delhi
    Pune Lima Quito Bogota Austin Denver Boston Toronto Montreal Sydney Perth
    """
)
PRODUCTS = _words(
    """
    lamp chair desk mug kettle notebook pencil backpack umbrella scarf jacket helmet tent blanket pillow mirror
    clock vase basket candle keyboard mouse monitor cable charger speaker camera tripod printer router hammer drill
    wrench ladder shovel rake bucket hose paint brush bread cheese apples coffee tea honey flour rice olives butter
    soap towel sponge broom shampoo bicycle scooter skates kayak racket ball
    """
)
DEPARTMENTS = _words(
    """
    sales marketing finance support research logistics legal design security operations training purchasing quality
    engineering hospitality archive
    """
)
REGIONS = _words(
    """
    north south east west central coast valley harbour island highland lakeside uptown
    """
)
COLOURS = _words(
    """
    red blue green yellow black white purple orange silver brown pink grey teal gold beige navy
    """
)
ANIMALS = _words(
    """
    otter falcon badger heron lynx beaver robin fox owl raven dolphin tiger panda koala zebra camel moose ferret
    gecko puffin
    """
)
CATEGORIES = _words(
    """
    tools garden kitchen office sports toys books music travel health food electronics clothing pets
    """
)
STATUSES = _words(
    """
    open closed pending shipped cancelled paid overdue returned active paused draft approved
    """
)
WORDS = _words(
    """
    river window garden market bridge letter station mountain blanket candle harbour forest lantern winter summer
    island paper silver copper velvet planet rocket engine signal anchor compass meadow orchard thunder pebble
    feather ladder marble ribbon saddle tunnel valley whistle canyon desert glacier hammer jungle kitchen lemon
    magnet needle oyster pepper quartz rabbit sailor temple violin walnut yellow zipper
    """
)
STEMS = _words(
    """
    notes report summary plan budget orders sales inventory customers contacts members staff schedule agenda minutes
    log results survey feedback invoices payments expenses projects tasks items products stock deliveries bookings
    events recipes books songs players trips readings measurements visits tickets requests answers journal draft
    list catalog overview status register index data records archive export backup team suppliers prices shifts
    """
)
FOLDERS = _words(
    """
    data docs notes reports input archive shared files work team-a 2024 2025 project office personal old exports
    config src records material inbox
    """
)
MONTHS = _words(
    """
    january february march april may june july august september october november december
    """
)
WEEKDAYS = _words(
    """
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday
    """
)
DOMAINS = _words(
    """
    example.com mailbox.org acme.io northwind.net bluehill.org lakeview.edu fastpost.net greenfield.co
    harborline.com oakstreet.org pixelworks.io redstone.net sunrise.co tidewater.org umbra.dev vista.net
    """
)
SERVICES = _words(
    """
    billing auth search gateway mailer scheduler indexer payments uploads sessions reports worker cache proxy
    metrics inventory
    """
)
SETTINGS = _words(
    """
    host port timeout retries language theme currency region level mode user password token path interval limit
    format encoding prefix owner version color width height volume quality backend workers cache_size max_items
    log_file database bucket channel server email title delay threshold batch_size
    """
)
SECTIONS = _words(
    """
    server client database network display printer backup logging account mail storage audio video cache security
    worker export import report user
    """
)
UNTITLED = (
    "the quarterly review", "the summer party", "the new office", "the school trip", "the village library",
    "the bakery on Mill Road", "the cycling club", "the community garden", "the robotics course", "the annual audit",
    "the harbour museum", "the spring concert", "the kitchen renovation", "the product launch", "the mountain hut",
    "the choir tour", "the repair workshop", "the swimming pool", "the data migration", "the flea market",
    "the beekeeping group", "the theatre festival", "the night shift", "the ferry line", "the history seminar",
    "the football tournament", "the student exchange", "the solar project",
)  # fmt: skip
